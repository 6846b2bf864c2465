"""Stands in for a worker where a response's log comes out of the store: feeds it to one reading, at the reading's pace.

The same session folds it, so that a replay has the very bytes that the stream had. A slice at a time, so that a long
log takes the event loop from nobody.
"""

import asyncio
import logging
import sys
from collections.abc import AsyncIterator, Callable
from typing import Final

import msgspec

from frontend.api.errors import replay_gone, unavailable
from frontend.messages import HostsInput, Leave, Lost, Refusal, Say
from frontend.reading import Reading
from frontend.store.errors import ReplayGone, StoreUnavailable
from protocol.commands import Attach, Pause
from protocol.records import ErrorDetail
from protocol.reports import Attached, Batch

logger = logging.getLogger(__name__)

_SLICE_RECORDS: Final = 200
"""Folding so many takes a few milliseconds."""
_RETRY_S: Final = 1.0
"""How long after a failure of the store in the middle of a stream it is asked again; the client gets keepalives."""

_UNREADABLE: Final = ErrorDetail("server_error", "internal_error", "The stored stream of this response can't be read.")
_GONE: Final = ErrorDetail("server_error", "replay_expired", "The response was deleted while its stream was replayed.")


class Replaying:
    """One replay; `read` reads the log from its beginning. What the reading's session says comes to `tell`."""

    def __init__(self, read: Callable[[], AsyncIterator[list[bytes]]]) -> None:
        self._read = read
        self._goes_on = asyncio.Event()
        self._goes_on.set()
        self._over = False

    def tell(self, message: HostsInput) -> None:
        """Take in what the reading's session says to its worker."""
        match message:
            case Say(command=Pause()):
                self._goes_on.clear()
            case Say(command=Attach()):
                self._goes_on.set()
            case Leave():
                self._over = True
                self._goes_on.set()
            case _:
                pass

    async def run(self, reading: Reading) -> None:
        """Feed the reading until it has all, or has left."""
        has_begun = False
        while not self._over:
            try:
                async for records, offset in self._slices():
                    await self._feed(reading, records, offset)
                    has_begun = True
                return
            except ReplayGone:
                gone = Lost(_GONE) if has_begun else Refusal(replay_gone(reading.session.response_id))
                reading.deliver(gone)
            except StoreUnavailable:
                if not has_begun:
                    reading.deliver(Refusal(unavailable("The store does not answer; try again soon.")))
                await asyncio.sleep(_RETRY_S)
            except Exception:
                logger.exception("response %s: its stored log can't be read", reading.session.response_id)
                reading.deliver(Lost(_UNREADABLE))

    async def _slices(self) -> AsyncIterator[tuple[list[bytes], int]]:
        """The log in slices, each with its offset; an empty one at the end."""
        offset = 0
        async for chunk in self._read():
            for start in range(0, len(chunk), _SLICE_RECORDS):
                yield chunk[start : start + _SLICE_RECORDS], offset + start
            offset += len(chunk)
        yield [], offset

    async def _feed(self, reading: Reading, records: list[bytes], offset: int) -> None:
        """What was fed before, the session knows by its offset; where the log ends is known at its end."""
        number = reading.session.reader
        reading.deliver(Attached(number, sys.maxsize if records else offset))
        reading.deliver(Batch(number, offset, tuple(map(msgspec.Raw, records))))
        await asyncio.sleep(0)
        await self._goes_on.wait()
