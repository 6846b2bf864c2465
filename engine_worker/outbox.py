"""What leaves the core, in which order: the effects of one input, and what is to be journaled before anybody is told.

The one gate that holds "journaled before published". Entries are kept over the inputs of a burst, so that a journal is
written once a burst; no report leaves while any of them is unwritten.
"""

from engine_worker.journal import MAGIC, framed
from engine_worker.mailbox import Effect, Note, Send, UnlinkJournal, WriteJournal
from engine_worker.state import Peer, Response
from protocol.reports import Report


class Outbox:
    """Collects the effects of one input, counts what is meant for each frontend, and holds what is unwritten."""

    def __init__(self) -> None:
        self._effects: list[Effect] = []
        self._unwritten: dict[Response, bytes] = {}

    def put(self, effect: Effect) -> None:
        self._effects.append(effect)

    def send(self, peer: Peer, report: Report) -> None:
        if self._unwritten:
            self.write_out()
        peer.sent += 1
        self._effects.append(Send(peer.address, report))

    def debug(self, text: str) -> None:
        self._effects.append(Note("debug", text))

    def begin_journal(self, response: Response) -> int:
        """Have a journal begun for the response; returns the bytes that takes."""
        self._unwritten[response] = MAGIC
        return len(MAGIC)

    def journal(self, response: Response, payload: bytes) -> int:
        """Have an entry written to the response's journal; returns the bytes that takes."""
        entry = framed(payload)
        before = self._unwritten.get(response)
        self._unwritten[response] = entry if before is None else before + entry
        return len(entry)

    def end_journal(self, response: Response) -> None:
        """Have the response's journal removed."""
        self._unwritten.pop(response, None)
        self.put(UnlinkJournal(response.response_id, response.volatile))

    def write_out(self) -> None:
        """Write all that is unwritten, before whatever is put or sent after this."""
        for response, entries in self._unwritten.items():
            first, last = entries.startswith(MAGIC), response.log.closed
            self.put(WriteJournal(response.response_id, entries, response.volatile, first, last))
        self._unwritten.clear()

    def take(self) -> list[Effect]:
        """Everything put in since the last time."""
        effects, self._effects = self._effects, []
        return effects
