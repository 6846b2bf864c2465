"""Responses of which nobody was told yet: their prompt is being rendered, so that they have no log, and the engine
decides whether they ever will; or they have begun, in the background, and the disk takes its time.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from engine_worker.engines.interface import TurnPrepared, TurnRecord
from engine_worker.responses import Responses
from engine_worker.state import Peer, Response
from protocol.commands import Attach, Open
from protocol.records import Opened

Waiter = tuple[Peer, int]
"""Who waits: a frontend and its reader's number."""


@dataclass(eq=False, slots=True)
class Opening:
    """An accepted `Open` between `StartTurn` and its answer or, in the background, `JournalSynced`.

    `waiting` holds the commands to be answered then: the first `Open`, its repetitions, and early `Attach`es.
    `emitted` are the records that the engine was quicker with than with its answer. `opener` is None once it is lost.
    """

    opened: Opened
    frontend_id: str
    opener: Peer | None
    waiting: dict[Waiter, Open | Attach]
    emitted: list[TurnRecord] = field(default_factory=list)
    abort_requested: bool = False
    delete_requested: bool = False

    @property
    def prepared(self) -> TurnPrepared | None:
        """What the engine made of the request, if it has said so."""
        return next((record for record in self.emitted if isinstance(record, TurnPrepared)), None)


class Openings:
    """The openings by response id."""

    def __init__(self) -> None:
        self._by_id: dict[str, Opening] = {}

    def __len__(self) -> int:
        return len(self._by_id)

    def get(self, response_id: str) -> Opening | None:
        return self._by_id.get(response_id)

    def begin(self, opened: Opened, peer: Peer, command: Open) -> None:
        waiting: dict[Waiter, Open | Attach] = {(peer, command.reader): command}
        self._by_id[opened.response_id] = Opening(opened, peer.frontend_id, peer, waiting)

    def end(self, response_id: str) -> Opening:
        """The engine has answered, and the disk."""
        return self._by_id.pop(response_id)

    def begun(self, responses: Responses) -> Iterator[tuple[Waiter, Response]]:
        """All who wait for the disk, each with what it waits for."""
        for response_id, opening in self._by_id.items():
            if (response := responses.get(response_id)) is not None:
                yield from ((waiter, response) for waiter in opening.waiting)

    def leave(self, waiter: Waiter) -> None:
        """This reader no longer waits, whatever it waited for."""
        for opening in self._by_id.values():
            opening.waiting.pop(waiter, None)

    def leave_all(self, peer: Peer) -> None:
        """A frontend is gone, and its readers with it."""
        for opening in self._by_id.values():
            if opening.opener is peer:
                opening.opener = None
            for waiter in [waiter for waiter in opening.waiting if waiter[0] is peer]:
                del opening.waiting[waiter]
