"""Appending to logs and publishing what was appended: who reads what, from which offset, at which pace.

Theory of operation
    Publishing is reading the log. An append only marks the response; one flush per burst then sends each frontend a
    single `Records` message with the news for all of its readers. What an engine step brings is one burst, flushed when
    it is appended; other news wait for `FlushSoon`, lest each command that comes in makes messages of its own.

    A reader that is behind (it attached to an old log, or one message could not hold its news) is served apart, a
    bounded message per frontend every `replay_interval_s`, until it has caught up and is live. So a long replay takes
    neither the event loop nor a frontend's queue for itself, and live readers do not wait behind it.

    A frontend whose queue is full is a slow consumer: its readers are paused and attach again by offset.
"""

from collections.abc import Iterable

from engine_worker.mailbox import FlushSoon, ReplayIn
from engine_worker.outbox import Outbox
from engine_worker.responses import Responses
from engine_worker.state import Pace, Peer, Reader, Response
from protocol.records import Record
from protocol.reports import Attached, Batch, Records, Unknown


class Publisher:
    """Owns every reader. `records_max` and `bytes_max` bound one message; a replay's come `replay_interval_s` apart."""

    def __init__(
        self, outbox: Outbox, responses: Responses, records_max: int, bytes_max: int, replay_interval_s: float
    ) -> None:
        self._outbox = outbox
        self._responses = responses
        self._records_max = records_max
        self._bytes_max = bytes_max
        self._replay_interval_s = replay_interval_s
        self._news: dict[Response, None] = {}
        self._flush_awaited = False
        self._replays: dict[Peer, dict[Reader, None]] = {}
        self._replay_awaited = False

    def __repr__(self) -> str:
        return f"<Publisher: news of {len(self._news)}, replays to {len(self._replays)}>"

    @property
    def idle(self) -> bool:
        """Whether every reader that may be sent something has been sent everything."""
        return not self._news and not self._replays

    def append(self, response: Response, record: Record, now: float) -> None:
        """Append to the response's log, to be published with the next flush."""
        self._responses.append(response, record, now)
        self._news[response] = None

    def ask_for_flush(self) -> None:
        """To be called at the end of each input: what it left unpublished is to be flushed soon."""
        if self._news and not self._flush_awaited:
            self._flush_awaited = True
            self._outbox.put(FlushSoon())

    def attach(self, reader: Reader) -> None:
        """Put a new reader in place and answer `Attached`; its backlog and all that follows come in `Records`."""
        response = reader.response
        reader.peer.readers[reader.number] = reader
        response.readers[reader] = None
        if reader.client:
            response.clientless_since = None
        self._outbox.send(reader.peer, Attached(reader.number, len(response.log)))
        if reader.behind:
            self._replay(reader)
        else:
            reader.pace = Pace.LIVE

    def detach(self, peer: Peer, number: int, now: float) -> None:
        """Remove a reader; an unknown one is ignored."""
        reader = peer.readers.pop(number, None)
        if reader is not None:
            self._pause(reader)
            response = reader.response
            del response.readers[reader]
            if response.clientless_since is None and not response.has_client:
                response.clientless_since = now

    def detach_all(self, peer: Peer, now: float) -> None:
        """Remove every reader of a frontend that is gone."""
        for number in tuple(peer.readers):
            self.detach(peer, number, now)

    def pause(self, peer: Peer, number: int) -> None:
        """Send this reader nothing until it attaches again; its client, if any, still counts."""
        reader = peer.readers.get(number)
        if reader is not None:
            self._pause(reader)

    def pause_all(self, peer: Peer) -> None:
        """Pause every reader of a frontend: a slow consumer."""
        for reader in peer.readers.values():
            self._pause(reader)

    def drop(self, response: Response, now: float) -> None:
        """Forget a closed response: end its readers, and tell those that had not been sent everything."""
        for reader in tuple(response.readers):
            if reader.behind:
                self._outbox.send(reader.peer, Unknown(reader.number))
            self.detach(reader.peer, reader.number, now)
        self._news.pop(response, None)
        self._responses.drop(response)

    def flush(self) -> None:
        """Journal the news, then send it to all live readers: one message per frontend."""
        self._outbox.write_out()
        self._flush_awaited = False
        news, self._news = self._news, {}
        messages: dict[Peer, _Message] = {}
        for response in news:
            for reader in response.readers:
                if reader.pace is Pace.LIVE:
                    message = messages.get(reader.peer)
                    if message is None:
                        message = messages[reader.peer] = _Message(self._records_max, self._bytes_max)
                    if not message.fill(reader):
                        self._replay(reader)
        self._send(messages.items())

    def replay(self) -> None:
        """Send each frontend the next slices for its readers that are behind; those not served yet come first."""
        self._replay_awaited = False
        messages: dict[Peer, _Message] = {}
        for peer, readers in tuple(self._replays.items()):
            message = messages[peer] = _Message(self._records_max, self._bytes_max)
            for reader in tuple(readers):
                if message.full:
                    break
                has_all = message.fill(reader)
                del readers[reader]
                if has_all:
                    reader.pace = Pace.LIVE
                else:
                    readers[reader] = None
            if not readers:
                del self._replays[peer]
        self._send(messages.items())
        if self._replays:
            self._await_replay(self._replay_interval_s)

    def _pause(self, reader: Reader) -> None:
        reader.pace = Pace.PAUSED
        replays = self._replays.get(reader.peer)
        if replays is not None:
            replays.pop(reader, None)
            if not replays:
                del self._replays[reader.peer]

    def _replay(self, reader: Reader) -> None:
        reader.pace = Pace.REPLAY
        self._replays.setdefault(reader.peer, {})[reader] = None
        self._await_replay(0.0)

    def _await_replay(self, delay_s: float) -> None:
        if not self._replay_awaited:
            self._replay_awaited = True
            self._outbox.put(ReplayIn(delay_s))

    def _send(self, messages: Iterable[tuple[Peer, "_Message"]]) -> None:
        for peer, message in messages:
            if message.batches:
                self._outbox.send(peer, Records(tuple(message.batches)))


class _Message:
    """A `Records` message in the making, with the room that is left in it."""

    __slots__ = ("batches", "bytes_left", "records_left")

    def __init__(self, records_max: int, bytes_max: int) -> None:
        self.batches: list[Batch] = []
        self.records_left = records_max
        self.bytes_left = bytes_max

    @property
    def full(self) -> bool:
        return self.records_left <= 0 or self.bytes_left <= 0

    def fill(self, reader: Reader) -> bool:
        """Put in as much as fits of what the reader has not been sent, and move the reader on; whether that is all."""
        log, start = reader.response.log, reader.next
        length = len(log)
        if start >= length or self.full:
            return start >= length
        records = log.slice(start, self.records_left, self.bytes_left)
        reader.next = end = start + len(records)
        self.records_left -= len(records)
        self.bytes_left -= log.size(start, end)
        self.batches.append(Batch(reader.number, start, records))
        return end >= length
