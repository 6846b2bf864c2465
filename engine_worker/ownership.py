"""Who drives each live response: the one frontend that owns it, and the epoch that tells it from the owners before.

Theory of operation
    opened    -> owned by the frontend that opened it, epoch 1
    owner lost -> granted to another frontend at the next epoch: one that reads the response, else the one that owns
                 least; if there is none, to the next one that says Hello
    recovered -> nobody's: the first frontend that attaches gets it, and for `patience_s` nobody else, since its last
                 owner is most likely about to come back
    granted   -> `OwnerGranted` in the log, so that readers and successors know, and `Offered` to the new owner, again
                 with every tick until one of its readers is on the response
    closed    -> nobody's, but the last owner's epoch still decides who may release the log
    closed, unstored -> as before, to be stored; its log ends, so that a new owner has the epoch of the one before

A command with an older epoch comes from an owner that was lost and does not know it yet; it is refused.
"""

from collections.abc import Iterable

from engine_worker.outbox import Outbox
from engine_worker.publishing import Publisher
from engine_worker.state import Peer, Response
from protocol.records import OwnerGranted
from protocol.reports import Offered


class Ownership:
    """Owns `Response.owner`, `Response.epoch` and `Peer.owned`."""

    def __init__(self, outbox: Outbox, publisher: Publisher, patience_s: float) -> None:
        self._outbox = outbox
        self._publisher = publisher
        self._patience_s = patience_s
        self._orphans: dict[Response, float] = {}  # With the time before which only who attaches gets them.

    def __repr__(self) -> str:
        return f"<Ownership: {len(self._orphans)} orphans>"

    def begin(self, response: Response, frontend_id: str, opener: Peer | None, now: float) -> None:
        """The frontend that opened the response owns it; it may have been lost since (`opener` is None)."""
        response.epoch = 1
        self._publisher.append(response, OwnerGranted(frontend_id, 1), now)
        if opener is None:
            self._orphans[response] = now
        else:
            self._take(response, opener)

    def recover(self, response: Response, epoch: int, now: float) -> None:
        """The response came out of a journal: its last owner had this epoch."""
        response.epoch = epoch
        self._orphans[response] = now + self._patience_s

    def attached(self, response: Response, peer: Peer, now: float) -> None:
        """A frontend reads the response: if it is nobody's, it is this one's from now on."""
        if response in self._orphans:
            self._grant(response, peer, now)

    def holds(self, response: Response, peer: Peer, epoch: int) -> bool:
        """Whether a command of this frontend with this epoch is the owner's."""
        return response.owner is peer and response.epoch == epoch

    def lost(self, peer: Peer, now: float) -> None:
        """A frontend is gone: what it owned is nobody's until `settle`."""
        for response in peer.owned.values():
            response.owner = None
            self._orphans[response] = now
        peer.owned.clear()

    def settle(self, peers: Iterable[Peer], now: float) -> None:
        """Grant what is nobody's to one of these frontends, if there is any."""
        candidates = list(peers)
        if candidates:
            for response in [response for response, since in self._orphans.items() if since <= now]:
                heir = self._heir(response, candidates)
                self._grant(response, heir, now)
                self._offer(response, heir)

    def repeat_offers(self, peer: Peer) -> None:
        """Offer again what this frontend owns and does not read."""
        for response in peer.owned.values():
            if not peer.reads(response):
                self._offer(response, peer)

    def end(self, response: Response) -> None:
        """Its owner is done with the response, or it is dropped: nobody needs to drive it any more."""
        self._orphans.pop(response, None)
        if response.owner is not None:
            response.owner.owned.pop(response.response_id, None)

    def _grant(self, response: Response, heir: Peer, now: float) -> None:
        del self._orphans[response]
        if not response.log.closed:
            response.epoch += 1
            self._publisher.append(response, OwnerGranted(heir.frontend_id, response.epoch), now)
        self._take(response, heir)

    def _take(self, response: Response, peer: Peer) -> None:
        response.owner = peer
        peer.owned[response.response_id] = response

    def _offer(self, response: Response, peer: Peer) -> None:
        self._outbox.send(peer, Offered(response.response_id, response.epoch))

    @staticmethod
    def _heir(response: Response, candidates: list[Peer]) -> Peer:
        return min(candidates, key=lambda peer: (not peer.reads(response), len(peer.owned)))
