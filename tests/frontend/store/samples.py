"""What the tests store."""

from typing import Any

from frontend.store.finishing import Finished
from frontend.store.pages import StoredItem
from frontend.store.responses import NewBackground

NOW = 1_800_000_000


def item(name: str) -> StoredItem:
    """An item of that id."""
    return StoredItem(name, b'{"id":"%b"}' % name.encode())


def items(names: str) -> list[StoredItem]:
    """Items of these ids, each one letter or word."""
    return [item(name) for name in names.split()]


def names(found: list[StoredItem]) -> str:
    """The opposite of `items`."""
    return " ".join(each.item_id for each in found)


def finished(response_id: str, **fields: Any) -> Finished:
    """A response at its end, with some input and output."""
    given: dict[str, Any] = {
        "tenant": "t",
        "created_at": NOW - 5,
        "model": "m",
        "status": "completed",
        "epoch": 1,
        "closed_at": NOW,
        "closed": b"closed " + response_id.encode(),
        "response": b'{"id":"%b"}' % response_id.encode(),
        "input_items": [item(f"{response_id}_in")],
        "output_items": [item(f"{response_id}_out")],
        "records": [b"opened", b"step", b"closed"],
    }
    return Finished(response_id=response_id, **(given | fields))


def background(response_id: str, **fields: Any) -> NewBackground:
    """A background response that was just accepted."""
    given: dict[str, Any] = {
        "tenant": "t",
        "created_at": NOW - 5,
        "model": "m",
        "response": b"{}",
        "opened": b"opened",
        "epoch": 1,
    }
    return NewBackground(response_id=response_id, **(given | fields))
