"""What holds of an actor after every input, whatever came before."""

from engine_worker.actor import Actor
from engine_worker.state import Pace, Response
from protocol.codec import decode_record
from protocol.records import Closed, Opened, OwnerGranted


def check(actor: Actor) -> None:
    """Fails at the first broken promise."""
    responses, publisher = actor._responses, actor._publisher
    everything = [*responses.live.values(), *responses.closed.values(), *responses.unstored.values()]
    assert responses.bytes == sum(response.log.bytes for response in everything)
    assert responses.journal_bytes == sum(response.journal_bytes for response in everything)
    assert len(responses) <= actor._settings.responses_max or not responses.closed  # Live ones are never turned away.
    assert not any(response.log.closed for response in responses.live.values())
    assert all(response.log.closed for response in responses.closed.values())
    for response in everything:
        _check_readers(actor, response)
        _check_owner(actor, response)
    replaying = {reader for readers in publisher._replays.values() for reader in readers}
    for peer in actor._frontends:
        assert all(reader.peer is peer and peer.readers[number] is reader for number, reader in peer.readers.items())
        assert {reader for reader in peer.readers.values() if reader.pace is Pace.REPLAY} <= replaying
        replaying -= set(peer.readers.values())
    assert not replaying, "replays to readers that are gone"


def check_settled(actor: Actor) -> None:
    """As `check`, once everything asked for has been published."""
    check(actor)
    responses = actor._responses
    assert actor._publisher.idle
    assert responses.bytes <= actor._settings.log_bytes_max or not responses.closed
    assert not actor._outbox._unwritten, "told before it was journaled"
    for peer in actor._frontends:
        assert not any(reader.behind for reader in peer.readers.values() if reader.pace is not Pace.PAUSED)


def check_log(response: Response) -> None:
    """Opened first and once; epochs that count up from 1; Closed last and once."""
    records = [decode_record(raw) for raw in response.log.slice(0, 10**9, 10**9)]
    assert [offset for offset, record in enumerate(records) if isinstance(record, Opened)] == [0]
    epochs = [record.epoch for record in records if isinstance(record, OwnerGranted)]
    assert epochs == list(range(1, response.epoch + 1))
    closed = [offset for offset, record in enumerate(records) if isinstance(record, Closed)]
    assert closed == ([len(records) - 1] if response.log.closed else [])


def _check_readers(actor: Actor, response: Response) -> None:
    peers = set(actor._frontends)
    for reader in response.readers:
        assert reader.response is response
        assert reader.peer in peers, "a reader of a frontend that is gone"
        assert reader.peer.readers[reader.number] is reader
    assert (response.clientless_since is None) == response.has_client


def _check_owner(actor: Actor, response: Response) -> None:
    owners = [peer for peer in actor._frontends if response.response_id in peer.owned]
    if response.log.closed and not response.unstored:
        assert owners == []
        assert response not in actor._ownership._orphans
    elif response.owner is not None:
        assert owners == [response.owner]
    else:
        assert owners == []
        assert response in actor._ownership._orphans
