"""The collection of responses on a worker: its bounds, and which logs go when they are reached, with their journals.

Closed logs go first, oldest first, and when their time is over; live ones never do. What remains then is to refuse new
work. Who reads a log is not known here: whoever asks for room ends the readers of what is handed back.
"""

from collections.abc import Iterator

from engine_worker.journal import Mark, encode_entry
from engine_worker.logs import RECORD_OVERHEAD_BYTES
from engine_worker.outbox import Outbox
from engine_worker.state import Response
from protocol.codec import encode_record
from protocol.records import Record


class Responses:
    """Responses by id; `bytes` is what their logs take in memory, `journal_bytes` what their journals take in files."""

    def __init__(self, outbox: Outbox, bytes_max: int, journal_bytes_max: int, count_max: int) -> None:
        self._outbox = outbox
        self._bytes_max = bytes_max
        self._journal_bytes_max = journal_bytes_max
        self._count_max = count_max
        self.bytes = 0
        self.journal_bytes = 0
        self.live: dict[str, Response] = {}
        self.closed: dict[str, Response] = {}  # In the order of closing: the oldest comes first.
        self.unstored: dict[str, Response] = {}  # Closed, and as hard to part with as live ones.

    def __repr__(self) -> str:
        closed = len(self.closed) + len(self.unstored)
        return f"<Responses: {len(self.live)} live, {closed} closed, {self.bytes} bytes>"

    def __len__(self) -> int:
        return len(self.live) + len(self.closed) + len(self.unstored)

    def get(self, response_id: str) -> Response | None:
        return self.live.get(response_id) or self.closed.get(response_id) or self.unstored.get(response_id)

    def add(self, response: Response) -> None:
        """Keep a live response whose log is empty yet, and begin its journal."""
        self.live[response.response_id] = response
        self._journaled(response, self._outbox.begin_journal(response))

    def restore(self, response: Response) -> None:
        """Keep a response that came out of its journal; when all are kept, `order_closed` is to be called."""
        self._place_of(response)[response.response_id] = response
        self.bytes += response.log.bytes
        self.journal_bytes += response.journal_bytes

    def order_closed(self) -> None:
        """Put those restored among the others, in the order of their closing."""
        self.closed = dict(sorted(self.closed.items(), key=lambda item: item[1].recorded_at))

    def append(self, response: Response, record: Record, now: float) -> None:
        """Append to its log, at time `now`; a response whose log says `Closed` is closed from then on."""
        raw = encode_record(record)
        response.log.append(record, raw)
        self.bytes += len(raw) + RECORD_OVERHEAD_BYTES
        if response.journal_bytes:
            self._journaled(response, self._outbox.journal(response, raw))
        response.recorded_at = now
        if response.log.closed:
            self._place_of(response)[response.response_id] = self.live.pop(response.response_id)

    def journal(self, response: Response, entry: Mark) -> None:
        """Keep in its journal what is not for its log."""
        if response.journal_bytes:
            self._journaled(response, self._outbox.journal(response, encode_entry(entry)))

    def end_journal(self, response: Response) -> None:
        """Remove its journal: it is not needed any more, or tells less than readers were told."""
        if response.journal_bytes:
            self.journal_bytes -= response.journal_bytes
            response.journal_bytes = 0
            self._outbox.end_journal(response)

    def stored(self, response: Response, now: float) -> None:
        """It was unstored; from now on it is as any other closed one."""
        del self.unstored[response.response_id]
        response.unstored, response.recorded_at = False, now
        self.closed[response.response_id] = response

    def drop(self, response: Response) -> None:
        """Forget a closed response."""
        del self._place_of(response)[response.response_id]
        self.bytes -= response.log.bytes
        self.end_journal(response)

    def has_room(self, opening: int) -> bool:
        """Whether one more fits beside those here and the `opening` ones still to come."""
        return (
            self.bytes < self._bytes_max
            and self.journal_bytes < self._journal_bytes_max
            and len(self) + opening < self._count_max
        )

    def expired(self, closed_before: float) -> Iterator[Response]:
        """The responses closed before that time; the caller drops each before it asks for the next."""
        while (oldest := self._oldest()) is not None and oldest.recorded_at < closed_before:
            yield oldest

    def surplus(self) -> Iterator[Response]:
        """The closed responses that must go for the bounds to hold; to be dropped as in `expired`."""
        while (oldest := self._oldest()) is not None and (
            self.bytes > self._bytes_max or self.journal_bytes > self._journal_bytes_max or len(self) > self._count_max
        ):
            yield oldest

    def in_the_way(self, opening: int) -> Iterator[Response]:
        """The closed responses that must go for one more to fit; to be dropped as in `expired`."""
        while not self.has_room(opening) and (oldest := self._oldest()) is not None:
            yield oldest

    def _place_of(self, response: Response) -> dict[str, Response]:
        if not response.log.closed:
            return self.live
        return self.unstored if response.unstored else self.closed

    def _journaled(self, response: Response, size: int) -> None:
        response.journal_bytes += size
        self.journal_bytes += size

    def _oldest(self) -> Response | None:
        return next(iter(self.closed.values()), None)
