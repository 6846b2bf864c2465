"""Clients: they create, read, come back by cursor at any frontend when their connection breaks, cancel and delete.

What the endpoints of `frontend.response_endpoints` do around a reading is done here in the client's name.
"""

import msgspec

from frontend import sse
from frontend.api.errors import ApiError
from frontend.messages import Create, Drained, End, Erase, Overflow, Refuse, Say, Write
from frontend.session import Session
from frontend.store.errors import StoreUnavailable
from frontend.wish import Wish
from protocol.commands import Abort, Delete, Open
from protocol.reports import Attached, Batch
from tests.frontend.fake_frontend import Client
from tests.simulation.frontend import UNIX_TIME, FrontendProcess
from tests.simulation.scene import Scene
from tests.simulation.store import Row

LOOK_S = 0.6
"""How often a client reads what came; what it has not read is lost with its connection."""
PATIENCE_S = 5.0
"""A client that has heard nothing for so long asks elsewhere."""


class Visitor:
    """A client that wants one response to its end, and stays; with a `request` it creates it, perhaps to be run in the
    background.
    """

    def __init__(
        self,
        response_id: str,
        scene: Scene,
        *,
        request: bytes = b"",
        key: bytes | None = None,
        background: bool = False,
    ) -> None:
        self.response_id = response_id
        self.data = b""
        self.over: str | None = None
        """How it ended: `done`, or why it got nothing or no more."""
        self._chance = scene.new_chance()
        self._scene = scene
        self._timeline = scene.timeline
        self._witness = scene.witness
        self._request = request
        self._key = key
        self._background = background
        self._to_keep = False
        """Whether it is told nothing yet, for what it created is to be kept first."""
        self._frontend: FrontendProcess | None = None
        self._client: Client | None = None
        self._taken = 0
        self._heard_at = 0.0
        self._timeline.after(0.0, self.look)

    def __repr__(self) -> str:
        return f"<Visitor of {self.response_id}: {self.cursor + 1} events, {self.over or 'waits'} at {self._frontend}>"

    @property
    def cursor(self) -> int:
        """The sequence number of the last event it got."""
        return self.data.count(b"event: ") - 1

    def look(self) -> None:
        """Read what came; ask again, somewhere, where nothing will."""
        if self.over is not None:
            return
        if self._client is None:
            self._ask()
        elif self._frontend is not None and not self._frontend.alive:
            self._witness.count("reconnects")
            # Some of what was on its way still arrives.
            self._take(0 if self._to_keep else self._chance.choice([0, len(self._client.data)]))
            self._part()
        elif self._frontend is None or not self._frontend.paused:
            if not self._to_keep or self._keep(self._client):
                self._read(self._client)
        elif self._timeline.now - self._heard_at > PATIENCE_S:
            self.go()
        if self.over is None:
            self._timeline.after(LOOK_S, self.look)

    def go(self) -> None:
        """Its connection breaks, or it has waited long enough; it comes back."""
        if self._client is not None and self._frontend is not None and self.over is None:
            self._witness.count("reconnects")
            frontend, client = self._frontend, self._client
            frontend.due(lambda: frontend.leave(client))
            self._part()

    def stall(self) -> None:
        """It reads slowly, until it looks again."""
        if self._client is not None and self._frontend is not None and self._frontend.runs and not self._client.ended:
            frontend, client = self._frontend, self._client
            frontend.run(lambda: frontend.deliver(client, Overflow()))
            self._timeline.after(1.0, lambda: frontend.due(lambda: frontend.deliver(client, Drained())))

    def cancel(self) -> None:
        if self._client is not None and self._frontend is not None and self._frontend.runs:
            reader, frontend = self._client.session.reader, self._frontend
            frontend.run(lambda: frontend.tell(Say(reader, Abort(self.response_id))))

    # ---- one request -------------------------------------------------------------------------------------------------

    def _part(self) -> None:
        self._client, self._frontend, self._taken, self._to_keep = None, None, 0, False
        if self.data.endswith(sse.DONE):
            self.over = "done"
        elif self.cursor < 0 and self._request and self._key is None:
            self.over = "its create was cut off, and it does not know the id"

    def _ask(self) -> None:
        candidates = self._scene.living_frontends()
        if not candidates:
            return
        frontend = self._chance.choice(candidates)
        self._heard_at, self._taken = self._timeline.now, 0
        if not frontend.runs:  # It will take the request when it goes on; by then this client may have left.
            return
        creates = bool(self._request) and self.cursor < 0
        row = self._row()
        if row is not None and row.deleted:
            self._refused(404, "deleted")
        elif row is not None and row.closed is not None:
            self._client, self._frontend = replay(self.response_id, row, self._wish()), None
        elif creates:
            frontend.run(lambda: self._create(frontend))
        else:
            frontend.run(lambda: self._find(frontend))

    def _row(self) -> Row | None:
        try:
            return self._scene.store.get(self.response_id)
        except StoreUnavailable:
            return None

    def _wish(self) -> Wish:
        asked = self._key if self.cursor < 0 else None
        return Wish(stream=True, after=self.cursor, asked=asked, keeps_opened=self._background)

    def _create(self, frontend: FrontendProcess) -> None:
        self._frontend = frontend
        client = self._client = frontend.client(self.response_id, self._wish())
        at, reader = UNIX_TIME + int(self._timeline.now), client.session.reader
        command = Open(reader, self.response_id, at, self._request, asked=self._key or b"", background=self._background)
        self._to_keep = self._background
        frontend.tell(Create(command, "demo", joins=self._key is not None))

    def _keep(self, client: Client) -> bool:
        """Have the store know that it runs in the background; whether its client may be told now."""
        assert self._frontend is not None
        if not client.begun:
            return client.refusal is not None
        frontend = self._frontend
        try:
            refusal = None if self._scene.store.insert_background(self.response_id, client.session.epoch) else 404
        except StoreUnavailable:
            refusal = 503
            self._witness.erased.add(self.response_id)
            frontend.run(lambda: frontend.tell(Erase(self.response_id)))
        if refusal is not None:
            frontend.due(lambda: frontend.leave(client))
            self._refused(refusal, "not kept")
            return False
        self._to_keep = False
        self._witness.count("kept in the background", self.response_id not in self._witness.background)
        self._witness.background.add(self.response_id)
        return True

    def _find(self, frontend: FrontendProcess) -> None:
        self._frontend = frontend
        self._client = frontend.find(self.response_id, self._wish())

    def _read(self, client: Client) -> None:
        if self._take(len(client.data)):
            self._heard_at = self._timeline.now
        if client.refusal is not None:
            self._on_refusal(client.refusal)
        elif client.ended:
            self._part()

    def _take(self, end: int) -> bool:
        assert self._client is not None
        news = self._client.data[self._taken : end]
        # Comments are no part of the stream; a client that ends with one comes back.
        self.data += b"".join(part + b"\n\n" for part in news.split(b"\n\n") if part and not part.startswith(b":"))
        self._taken = max(self._taken, end)
        return bool(news)

    def _on_refusal(self, refusal: ApiError) -> None:
        self._refused(refusal.status, f"{refusal.code}: {refusal.message}")

    def _refused(self, status: int, message: str) -> None:
        self._scene.trace(f"{self} is refused: {status} {message}")
        self._witness.count(f"refused {status}")
        self._client, self._frontend, self._to_keep = None, None, False
        creates = bool(self._request) and self.cursor < 0
        is_other = status == 400 and self._witness.logs[self.response_id].twice  # It ends before this client's cursor.
        if status == 404 or (creates and self._key is None) or is_other:
            self.over = f"{status} {message}"
        else:
            assert status == 503 or (status == 429 and creates), f"{self} is refused: {status} {message}"


def replay(response_id: str, row: Row, wish: Wish) -> Client:
    """What a reader gets of a stored log."""
    session = Session(1, response_id, "", wish)
    client = Client(session, wish)
    effects = session.handle(Attached(1, len(row.records)), 0)
    effects += session.handle(Batch(1, 0, tuple(map(msgspec.Raw, row.records))), 0)
    for effect in effects:
        match effect:
            case Write(data):
                client.data += data
            case Refuse(error):
                client.refusal = error
            case End():
                client.ended = True
            case _:
                pass
    return client


class Deleter:
    """A client that deletes a response, and tries until it is told that this is done, or that there is none."""

    def __init__(self, response_id: str, scene: Scene) -> None:
        self.response_id = response_id
        self.over = False
        self._chance = scene.new_chance()
        self._scene = scene
        self._store = scene.store
        self._at: FrontendProcess | None = None
        self._row: Row | None = None
        self._ask()

    def __repr__(self) -> str:
        return f"<Deleter of {self.response_id}{' over' if self.over else ''} at {self._at}>"

    def _ask(self) -> None:
        """One request, at one frontend; another one follows unless it is answered."""
        if self.over:
            return
        self._scene.timeline.after(PATIENCE_S, self._ask)
        candidates = [frontend for frontend in self._scene.living_frontends() if frontend.runs]
        if not candidates or self._store.down:
            return
        self._row = self._store.get(self.response_id)
        if self._row is not None and self._row.deleted:
            self.over = True
            return
        frontend = self._at = self._chance.choice(candidates)
        frontend.run(lambda: frontend.look_up(self.response_id, lambda number: self._answer(frontend, number)))

    def _answer(self, frontend: FrontendProcess, number: int | None) -> None:
        """A worker has it, which is told by this reader; or none has."""
        if self.over or self._at is not frontend or self._store.down:
            return
        if number is None and self._row is None:
            self.over = True
            return
        deleted = self._store.delete(self.response_id, live=number is not None)
        if number is not None:
            frontend.tell(Say(number, Delete(self.response_id)))
        self.over = True
        if deleted:
            self._scene.witness.deleted.add(self.response_id)
            self._scene.witness.count("deleted")
