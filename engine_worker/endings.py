"""How responses end: asked for by a client, said by their owner, and forgotten when they are to be.

cancel ──► the turn ends ──► the owner closes ──► closed ── its window over, or deleted, or in the way ──► gone
release ──► gone when nobody reads it, after a shorter window: whoever comes later reads it in the store
delete ──► as cancel, and then gone; what is closed is gone at once
close(unstored) ──► kept, and its owner's, until `stored`
"""

from engine_worker.mailbox import AbortTurn
from engine_worker.outbox import Outbox
from engine_worker.ownership import Ownership
from engine_worker.publishing import Publisher
from engine_worker.recovery import Recovery
from engine_worker.responses import Responses
from engine_worker.state import Peer, Response
from protocol.commands import Close, Release, Stored
from protocol.records import CancelCause, CancelRequested, Closed, DeleteRequested


class Endings:
    """Ends responses; which of them are to be forgotten, once their readers know the end, is its to know."""

    def __init__(
        self, outbox: Outbox, responses: Responses, publisher: Publisher, ownership: Ownership, recovery: Recovery
    ) -> None:
        self._outbox = outbox
        self._responses = responses
        self._publisher = publisher
        self._ownership = ownership
        self._recovery = recovery
        self._doomed: list[Response] = []
        self._released: list[Response] = []

    def __repr__(self) -> str:
        return f"<Endings: {len(self._doomed)} to be forgotten, {len(self._released)} released>"

    def cancel(self, response: Response, cause: CancelCause, now: float) -> None:
        """Have its turn end; asked for once."""
        if response.can_be_cancelled:
            response.cancel_requested = True
            self._publisher.append(response, CancelRequested(cause), now)
            if response.interrupted is None:
                self._outbox.put(AbortTurn(response.response_id))
            else:
                self._recovery.end_turn(response, now)

    def delete(self, response: Response, now: float) -> None:
        """Forget it: at once when it is closed, else when it has ended, which it is to do."""
        if response.log.closed:
            self._drop(response, now)
        elif not response.delete_requested:
            response.delete_requested = True
            self._publisher.append(response, DeleteRequested(), now)
            self.cancel(response, "client", now)

    def close(self, peer: Peer, command: Close, now: float) -> Response | None:
        """Append the owner's verdict and return the response; anyone else's is refused."""
        response = self._responses.live.get(command.response_id)
        if response is None or not self._ownership.holds(response, peer, command.epoch):
            self._outbox.debug(f"refused to close {command.response_id} for {peer.frontend_id}, epoch {command.epoch}")
            return None
        if response.turn_running:
            self._outbox.put(AbortTurn(response.response_id))
        response.unstored = command.unstored
        self._publisher.append(response, Closed(command.status, command.at, command.error, command.unstored), now)
        if not response.unstored:
            self._ownership.end(response)
        if response.delete_requested:
            self._doomed.append(response)
        return response

    def stored(self, peer: Peer, command: Stored, now: float) -> None:
        """What was closed unstored is as any other closed one, its owner says."""
        response = self._responses.unstored.get(command.response_id)
        if response is not None and self._ownership.holds(response, peer, command.epoch):
            self._responses.stored(response, now)
            self._ownership.end(response)

    def release(self, peer: Peer, command: Release) -> None:
        """A closed log may go before its window is over; the last owner says so."""
        response = self._responses.closed.get(command.response_id)
        if response is None or not self._ownership.holds(response, peer, command.epoch):
            self._outbox.debug(f"refused to release {command.response_id} for {peer.frontend_id}")
            return
        if not response.released:
            response.released = True
            self._released.append(response)

    def forget(self, now: float, closed_before: float) -> None:
        """Drop what was deleted and is closed by now, and what was released, closed before then and is not read."""
        doomed, self._doomed = self._doomed, []
        for response in doomed:
            if self._responses.get(response.response_id) is response:
                self._drop(response, now)

        released, self._released = self._released, []
        for response in released:
            if self._responses.get(response.response_id) is not response:
                continue
            if response.readers or response.recorded_at > closed_before:
                self._released.append(response)
            else:
                self._drop(response, now)

    def _drop(self, response: Response, now: float) -> None:
        self._ownership.end(response)
        self._publisher.drop(response, now)
