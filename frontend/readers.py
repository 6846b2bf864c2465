"""The readers of one frontend, and where each of them is: a table, which decides nothing.

There is one reader for each client's request, and one for each response owned without a client.
"""

import msgspec

from frontend.messages import Create, Lost, Refusal
from frontend.workers import Worker
from protocol.commands import Attach


class Opening(msgspec.Struct):
    """A worker was asked to create it (`worker`), or is to be as soon as one can; given up at `until`.

    `tried` are the workers that rejected it (not ready, or full), with their incarnations then. `repeated` says
    that `worker` was asked again, so that it may have carried out what it was asked first. `retry_after_s` is the
    shortest time for which a worker with a full queue has refused it, 0 when none has.
    """

    create: Create
    until: float
    tried: dict[str, str] = msgspec.field(default_factory=dict)
    worker: Worker | None = None
    repeated: bool = False
    retry_after_s: int = 0


class Looking(msgspec.Struct):
    """All registered workers are asked for the response; `awaited` are those whose last word is missing at `until`.

    `otherwise` is what follows when none has it: the reader is opened, or its session told. `question` is what they are
    asked, with the offset that the reader needs, and None until its session has said that. `former` hosted it before.
    """

    awaited: set[str]
    otherwise: Opening | Refusal | Lost
    until: float
    question: Attach | None = None
    former: Worker | None = None


class Hosted(msgspec.Struct):
    """This worker has the response, and its session decides what more to tell that worker."""

    worker: Worker


Place = Looking | Opening | Hosted


class Reader(msgspec.Struct):
    """One reader; its place is changed by `Readers.move` alone."""

    number: int
    response_id: str
    place: Place


class Readers:
    """All of them, by number and by response; each worker's `readers` are kept to what their places say."""

    def __init__(self) -> None:
        self._readers: dict[int, Reader] = {}
        self._by_response: dict[str, set[int]] = {}
        self._unplaced: dict[int, Reader] = {}
        """Those looking or opening."""

    def __repr__(self) -> str:
        return f"{len(self._readers)} readers, {len(self._unplaced)} of them unplaced"

    def __getitem__(self, number: int) -> Reader:
        return self._readers[number]

    def get(self, number: int) -> Reader | None:
        """The reader of this number, if it has not left."""
        return self._readers.get(number)

    def of(self, response_id: str) -> set[int]:
        """The readers that read, or want, this response."""
        return self._by_response.get(response_id, set())

    def at(self, worker: Worker) -> list[Reader]:
        """The readers that this worker hosts or was asked to open, in the order in which they came."""
        return [self._readers[number] for number in sorted(worker.readers)]

    def unplaced(self) -> list[Reader]:
        """The readers that look for their response or wait for it to be opened."""
        return list(self._unplaced.values())

    def add(self, number: int, response_id: str, place: Place) -> Reader:
        """A new reader."""
        reader = self._readers[number] = Reader(number, response_id, place)
        self._by_response.setdefault(response_id, set()).add(number)
        self._note(reader)
        return reader

    def move(self, reader: Reader, place: Place) -> None:
        """The reader is here from now on."""
        self._unnote(reader)
        reader.place = place
        self._note(reader)

    def remove(self, number: int) -> Reader | None:
        """Forget the reader; returns it as it was."""
        reader = self._readers.pop(number, None)
        if reader is not None:
            self._unnote(reader)
            siblings = self._by_response[reader.response_id]
            siblings.discard(number)
            if not siblings:
                del self._by_response[reader.response_id]
        return reader

    def _note(self, reader: Reader) -> None:
        match reader.place:
            case Hosted(worker=worker):
                worker.readers.add(reader.number)
                return
            case Opening(worker=Worker() as worker):
                worker.readers.add(reader.number)
            case _:
                pass
        self._unplaced[reader.number] = reader

    def _unnote(self, reader: Reader) -> None:
        self._unplaced.pop(reader.number, None)
        match reader.place:
            case Hosted(worker=Worker() as worker) | Opening(worker=Worker() as worker):
                worker.readers.discard(reader.number)
            case _:
                pass
