"""A frontend's two cores and nothing else: `Hosts` and its sessions, as `Links` and `Reading` put them together."""

from collections import deque
from collections.abc import Callable

import msgspec

from frontend import sse
from frontend.api.errors import ApiError
from frontend.config import Settings
from frontend.hosts import Hosts
from frontend.messages import (
    Adopt,
    Begin,
    Charge,
    ClientGone,
    Connect,
    Create,
    Deliver,
    Disconnect,
    Distribute,
    End,
    Find,
    HostsEffect,
    HostsInput,
    Leave,
    Lost,
    Note,
    Refuse,
    Say,
    Send,
    SessionInput,
    Started,
    Take,
    Undelivered,
    Verdict,
    Write,
)
from frontend.session import Session
from frontend.wish import Wish
from protocol.codec import decode_record
from protocol.commands import Addressed, Close, Open
from protocol.records import Closed
from protocol.reports import Attached, Batch

REQUEST = b'{"model":"demo","input":"hi"}'
Transmit = Callable[[str, str, Addressed], bool]
"""`transmit(frontend, worker, command)`: whether it could be queued."""


class Client(msgspec.Struct):
    """What one client got."""

    session: Session
    wish: Wish
    data: bytes = b""
    refusal: ApiError | None = None
    begun: bool = False
    lost: bool = False
    ended: bool = False
    gone: bool = False


class FakeFrontend:
    """One frontend process."""

    def __init__(self, name: str, settings: Settings, transmit: Transmit) -> None:
        self.name = name
        self.hosts = Hosts(name, settings)
        self.clients: dict[int, Client] = {}
        self.losses: list[Client] = []
        """Those whose log was lost since the last look."""
        self.now = 0.0
        self._transmit = transmit
        self._numbers = 0
        self._inbox: deque[HostsInput] = deque()
        self._is_handling = False

    def __repr__(self) -> str:
        return f"<{self.name} {self.hosts}>"

    def create(self, response_id: str, wish: Wish) -> Client:
        client = self.client(response_id, wish)
        command = Open(client.session.reader, response_id, 1, REQUEST, asked=wish.asked or b"")
        self.tell(Create(command, "demo", joins=wish.asked is not None))
        return client

    def find(self, response_id: str, wish: Wish) -> Client:
        client = self.client(response_id, wish)
        self.tell(Find(client.session.reader, response_id, client=wish.stream))
        return client

    def number(self) -> int:
        """That of the next reader."""
        self._numbers += 1
        return self._numbers

    def leave(self, client: Client) -> None:
        client.gone = True
        if not client.ended:
            alone = self.hosts.is_alone(client.session.reader, client.session.response_id)
            self.deliver(client, ClientGone(others=not alone))

    def client(self, response_id: str, wish: Wish, *, waits: bool = True) -> Client:
        """A new session, of which its caller tells `Hosts`; a client `waits` behind it, or none does."""
        number = self.number()
        has_client = waits and (wish.stream or wish.to_the_end)
        client = Client(Session(number, response_id, self.name, wish, client=has_client), wish, gone=not waits)
        self.clients[number] = client
        return client

    def tell(self, message: HostsInput) -> None:
        self._inbox.append(message)
        if self._is_handling:
            return
        self._is_handling = True
        while self._inbox:
            for effect in self.hosts.handle(self._inbox.popleft(), self.now):
                self._carry_out(effect)
        self._is_handling = False

    def _carry_out(self, effect: HostsEffect) -> None:
        match effect:
            case Deliver():
                self.hand(effect.reader, effect.message)
            case Distribute():
                for batch in effect.batches:
                    self.hand(batch.reader, batch)
            case Send():
                if not self._transmit(self.name, effect.worker, Addressed(effect.incarnation, effect.command)):
                    self.tell(Undelivered(effect.worker, effect.command))
            case Adopt():
                client = self.client(effect.response_id, Wish(), waits=False)
                self.tell(Take(client.session.reader, effect.response_id, effect.worker))
            case Connect() | Disconnect() | Note():
                pass

    def hand(self, reader: int, message: SessionInput) -> None:
        """Let the reader's session take in what `Hosts` has for it."""
        client = self.clients[reader]
        if isinstance(message, Lost) and not client.ended:
            client.lost = True
            self.losses.append(client)
        self.deliver(client, message)

    def deliver(self, client: Client, message: SessionInput) -> None:
        """Let a session take this in."""
        for effect in client.session.handle(message, self.now):
            match effect:
                case Write():
                    client.data += effect.data
                case Say() | Leave():
                    self.tell(effect)
                case Verdict():
                    self.drive(client, effect)
                case Refuse():
                    client.refusal = effect.error
                case End():
                    client.ended = True
                case Begin():
                    client.begun = True
                case Charge() | Started():
                    pass

    def drive(self, client: Client, verdict: Verdict) -> None:
        """End a response that this frontend owns."""
        close = Close(client.session.response_id, verdict.epoch, verdict.status, 1, verdict.error)
        self.tell(Say(client.session.reader, close))


def stream_of(records: list[bytes], wish: Wish) -> bytes:
    """What a reader without any trouble gets of this log."""
    session = Session(1, "", "nobody", wish)
    session.handle(Attached(1, len(records)), 0)
    effects = session.handle(Batch(1, 0, tuple(map(msgspec.Raw, records))), 0)
    data = b"".join(effect.data for effect in effects if isinstance(effect, Write))
    assert not isinstance(decode_record(records[-1]), Closed) or data.endswith(sse.DONE)
    return data
