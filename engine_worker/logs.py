"""One response's log: encoded records at contiguous offsets, with exactly one `Closed`, last.

Pure: it knows neither readers nor owners nor time. A record is encoded once in its life; its journal and every reader
are given the same bytes.
"""

from array import array
from bisect import bisect_right

import msgspec

from protocol.codec import decode_record
from protocol.records import Closed, Opened, Record

Encoded = bytes
"""A record as `protocol.codec.encode_record` encoded it, in this process or in one before."""

RECORD_OVERHEAD_BYTES = 120
"""What CPython takes for a record beside its encoded bytes (measured): two objects, a list slot and a size."""


class LogClosed(Exception):
    """A record was appended after `Closed`: the caller forgot to look at `closed`."""


class ResponseLog:
    """The records of one response; `len()` is the offset that the next one gets."""

    __slots__ = ("_ends", "_records", "closed", "response_id")

    def __init__(self, response_id: str) -> None:
        self.response_id = response_id
        self.closed = False
        self._records: list[msgspec.Raw] = []
        self._ends = array("Q")  # _ends[i]: bytes of records 0..i, so that a slice's size is one subtraction.

    def __repr__(self) -> str:
        return f"<ResponseLog {self.response_id}: {len(self)} records, {self.bytes} bytes, closed={self.closed}>"

    def __len__(self) -> int:
        return len(self._records)

    @property
    def bytes(self) -> int:
        """Memory this log takes."""
        return self._before(len(self)) + RECORD_OVERHEAD_BYTES * len(self._records)

    @property
    def opened(self) -> Opened:
        """The record at offset 0, decoded anew: rarely asked for, and its request may be large."""
        opened = decode_record(self._records[0])
        assert isinstance(opened, Opened)
        return opened

    def append(self, record: Record, raw: Encoded) -> None:
        """Append a record, which is encoded as `raw`. Raises `LogClosed`."""
        if self.closed:
            raise LogClosed(self.response_id)
        self._records.append(msgspec.Raw(raw))
        self._ends.append((self._ends[-1] if self._ends else 0) + len(raw))
        self.closed = isinstance(record, Closed)

    def slice(self, start: int, records_max: int, bytes_max: int) -> tuple[msgspec.Raw, ...]:
        """Records from offset `start` on, at most so many and so many bytes, yet at least one where there is one."""
        end = min(start + records_max, len(self._records))
        if end > start + 1 and self.size(start, end) > bytes_max:
            end = max(start + 1, bisect_right(self._ends, self._before(start) + bytes_max))
        return tuple(self._records[start:end])

    def size(self, start: int, end: int) -> int:
        """Encoded bytes of the records from offset `start` up to `end`, which is not counted."""
        ends = self._ends
        return (ends[end - 1] if end else 0) - (ends[start - 1] if start else 0)

    def _before(self, offset: int) -> int:
        return self._ends[offset - 1] if offset else 0
