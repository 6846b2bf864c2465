"""The frontends this worker knows: from a `Hello` until they are silent for too long or cannot be reached."""

from collections.abc import Iterator
from typing import Final

from engine_worker.mailbox import Note, Send
from engine_worker.outbox import Outbox
from engine_worker.state import Peer
from protocol.codec import VERSION, VERSIONS_SPOKEN
from protocol.commands import Hello
from protocol.reports import Missed, Refused, Stale, Welcome

_WELCOME_AGAIN_S: Final = 1.0
"""A frontend that does not know us so long after its Welcome has not got it."""


class Frontends:
    """Peers by routing id. `worker` and `incarnation` are what this worker calls itself in a `Welcome`."""

    def __init__(self, outbox: Outbox, worker: str, incarnation: str) -> None:
        self._outbox = outbox
        self._worker = worker
        self._incarnation = incarnation
        self._peers: dict[bytes, Peer] = {}

    def __len__(self) -> int:
        return len(self._peers)

    def __iter__(self) -> Iterator[Peer]:
        return iter(self._peers.values())

    def get(self, address: bytes) -> Peer | None:
        return self._peers.get(address)

    def hello(self, sender: bytes, incarnation: str, command: Hello, now: float) -> Peer | None:
        """Refresh a frontend that is known; welcome a new one and return it; refuse one that can't be spoken to.

        `incarnation` is whom it thinks it speaks to.
        """
        if command.version not in VERSIONS_SPOKEN or command.frontend_id.encode() != sender:
            self._refuse(sender, command)
            return None
        knows_us = incarnation == self._incarnation
        peer = self._peers.get(sender)
        if peer is not None:
            peer.heard_at = now
            was_lost = command.sent >= 0 and not knows_us and now - peer.welcomed_at >= _WELCOME_AGAIN_S
            if peer.speaks_to_another or was_lost:
                self._welcome(peer, now)
            elif command.sent >= 0 and knows_us:
                self._check(peer, command.sent)
            return None
        peer = self._peers[sender] = Peer(sender, command.frontend_id, heard_at=now)
        peer.received = command.sent if knows_us else 0
        self._welcome(peer, now)
        self._outbox.put(Note("info", f"frontend {command.frontend_id} is here"))
        return peer

    def stale(self, sender: bytes) -> None:
        """A command was meant for another incarnation, or its sender is not known (any more): have it say Hello."""
        self._outbox.debug(f"refused a command from {sender!r}: meant for another incarnation, or not welcomed")
        peer = self._peers.get(sender)
        if peer is not None:
            peer.speaks_to_another = True
        self._answer(sender, Stale(self._incarnation))

    def silent(self, heard_before: float) -> list[Peer]:
        """The frontends not heard of since that time."""
        return [peer for peer in self._peers.values() if peer.heard_at < heard_before]

    def forget(self, peer: Peer, reason: str) -> None:
        """The frontend is lost."""
        del self._peers[peer.address]
        self._outbox.put(Note("info", f"frontend {peer.frontend_id} is lost: {reason}"))

    def _check(self, peer: Peer, sent: int) -> None:
        """Have it say all again if its connection broke and took commands along."""
        if peer.received == sent:
            peer.confirmed = sent
        else:
            lost = sent - peer.received
            peer.received = sent
            self._outbox.put(Note("info", f"{lost} commands of frontend {peer.frontend_id} were lost on their way"))
            self._outbox.send(peer, Missed())

    def _welcome(self, peer: Peer, now: float) -> None:
        """Tell it who we are, not by `Outbox.send`: this is where the count of messages begins."""
        peer.sent, peer.speaks_to_another, peer.welcomed_at = 0, False, now
        self._outbox.put(Send(peer.address, Welcome(self._worker, self._incarnation, VERSION)))

    def _refuse(self, sender: bytes, command: Hello) -> None:
        message = f"version {command.version}, frontend_id {command.frontend_id!r} as {sender!r}: not spoken here"
        self._outbox.put(Note("warning", f"refused a frontend: {message}"))
        self._answer(sender, Refused(message, VERSIONS_SPOKEN))

    def _answer(self, sender: bytes, report: Stale | Refused) -> None:
        peer = self._peers.get(sender)
        if peer is None:
            self._outbox.put(Send(sender, report))
        else:
            self._outbox.send(peer, report)
