"""The shell of every `Closing` in this process: their readers, their store calls, and their patience with the store.

A task a closing, from the moment its log is copied until the store has it; nothing runs while a response is generated.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Final

from frontend.closing import Closing
from frontend.delivering import Webhooks
from frontend.finished import as_kept, to_keep
from frontend.messages import (
    Again,
    ClosingInput,
    End,
    Erase,
    Keep,
    Kept,
    Leave,
    Lost,
    Overruled,
    Refusal,
    Say,
    SessionInput,
    Unkept,
)
from frontend.store.errors import StoreUnavailable
from frontend.store.finishing import Finished
from frontend.store.store import Store
from protocol.reports import Attached, Batch

logger = logging.getLogger(__name__)

_AT_ONCE_MAX: Final = 16
"""Closings that talk to the store at a time; the others wait for their turn."""
_RETRY_S: Final = 0.5
_RETRY_MAX_S: Final = 10.0
"""How long after a failure the store is asked again: first, and, doubled each time, at most."""

Tell = Callable[[Say | Leave | Erase], None]
Json = dict[str, Any]


class Closings:
    """All closings at work. Make it inside the event loop; `tell` passes on what they say to the workers."""

    def __init__(self, store: Store, webhooks: Webhooks, store_wait_s: float, tell: Tell) -> None:
        self._store = store
        self._webhooks = webhooks
        self._store_wait_s = store_wait_s
        self._tell = tell
        self._turns = asyncio.Semaphore(_AT_ONCE_MAX)
        self._at_work: dict[str, Ending] = {}
        self._overdue: set[Ending] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._idle = asyncio.Event()
        self._idle.set()

    def __repr__(self) -> str:
        return f"<Closings: {len(self._at_work)} at work, {len(self._tasks)} at the store>"

    @property
    def is_overdue(self) -> bool:
        """Whether the store has failed for so long that readers were not kept waiting for it."""
        return bool(self._overdue)

    def begin(self, closing: Closing, response: Json) -> "Ending | None":
        """Start one for a response that will look like this once it is closed; None when it is at work already."""
        before = self._at_work.get(closing.response_id)
        if before is not None and before.closing.epoch >= closing.epoch:
            return None
        ending = Ending(closing, response, self._tell, self._keep, self._ended)
        self._at_work[closing.response_id] = ending
        self._idle.clear()
        return ending

    def started(self, response_id: str) -> None:
        """Note that a response in the background has brought something; should that fail, it may be run twice."""
        self._run(self._note_start(response_id))

    async def idle(self) -> None:
        """Wait until none is at work."""
        await self._idle.wait()

    async def close(self) -> None:
        """Give up those at work: their responses will be offered to other frontends."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _keep(self, ending: "Ending", records: tuple[bytes, ...]) -> None:
        self._run(self._store_it(ending, records))

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _note_start(self, response_id: str) -> None:
        try:
            await self._store.responses.start(response_id)
        except StoreUnavailable as error:
            logger.warning("background response %s: its start can't be stored: %s", response_id, error)

    def _ended(self, ending: "Ending") -> None:
        if self._at_work.get(ending.closing.response_id) is ending:
            del self._at_work[ending.closing.response_id]
        if not self._at_work:
            self._idle.set()

    async def _store_it(self, ending: "Ending", records: tuple[bytes, ...]) -> None:
        """Store it, however often that takes, and tell the closing how it went."""
        closing = ending.closing
        patience = asyncio.get_running_loop().call_later(self._store_wait_s, self._lose_patience, ending)
        try:
            finished = await asyncio.to_thread(to_keep, records, closing.closed, closing.epoch, ending.response)
            ending.deliver(await self._until_kept(closing, finished))
        except Exception:
            logger.exception("response %s: it can't be stored", closing.response_id)
            ending.deliver(Unkept())
        finally:
            patience.cancel()
            self._overdue.discard(ending)

    async def _until_kept(self, closing: Closing, finished: Finished) -> ClosingInput:
        delay_s = _RETRY_S
        while True:
            try:
                async with self._turns:
                    outcome = await self._webhooks.finish(finished)
            except StoreUnavailable as error:
                logger.warning("response %s is not stored yet: %s", closing.response_id, error)
                await asyncio.sleep(delay_s)
                delay_s = min(2 * delay_s, _RETRY_MAX_S)
                continue
            return as_kept(outcome, closing.closed)

    def _lose_patience(self, ending: "Ending") -> None:
        logger.warning("response %s: the store fails; its readers are not kept waiting", ending.closing.response_id)
        self._overdue.add(ending)
        ending.deliver(Unkept())


class Ending:
    """A closing with what it acts on; a reader like any other to those who deliver messages."""

    def __init__(
        self,
        closing: Closing,
        response: Json,
        tell: Tell,
        keep: Callable[["Ending", tuple[bytes, ...]], None],
        ended: Callable[["Ending"], None],
    ) -> None:
        self.closing = closing
        self.response = response
        self._tell = tell
        self._keep = keep
        self._ended = ended

    def __repr__(self) -> str:
        return f"<Ending {self.closing!r}>"

    def more(self, _: Batch, __: float) -> None:
        """As `Reading.more`: there is no short way."""

    def fail(self, _: Exception) -> None:
        """As `Reading.fail`; nothing here raises on the short way."""

    def deliver(self, message: SessionInput | ClosingInput) -> None:
        """Let the closing take this in, and carry out what it asks for; what only sessions care for is ignored."""
        match message:
            case Attached() | Batch() | Again() | Refusal() | Lost() | Kept() | Overruled() | Unkept():
                for effect in self.closing.handle(message):
                    match effect:
                        case Say() | Leave() | Erase():
                            self._tell(effect)
                        case Keep(records):
                            self._keep(self, records)
                        case End():
                            self._ended(self)
            case _:
                pass
