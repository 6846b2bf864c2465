"""A response at its end, as the store keeps it. Pure."""

from collections.abc import Sequence
from typing import Any

import msgspec

from frontend.api.stored_items import own_items, without_history
from frontend.messages import Kept, Overruled
from frontend.store.finishing import AlreadyClosed, Deleted, Finished, Outcome, Stored, Superseded
from frontend.store.pages import StoredItem
from protocol.codec import decode_record, encode_record
from protocol.records import Closed, Opened

Json = dict[str, Any]


def to_keep(records: Sequence[bytes], closed: Closed, epoch: int, response: Json) -> Finished:
    """All there is to keep of a response whose log is `records`, with `closed` after them where it isn't the last.

    `response` is the response object at its end, `epoch` that of the owner who says so. The log is kept byte for byte,
    but for its first record, which goes without the history that the response continues.
    """
    opened, last, end = decode_record(records[0]), decode_record(records[-1]), encode_record(closed)
    assert isinstance(opened, Opened)
    if opened.history_items:
        opened = without_history(opened)
        records = (encode_record(opened), *records[1:])
    conversation = response["conversation"]
    return Finished(
        response_id=opened.response_id,
        tenant=opened.tenant,
        created_at=opened.created_at,
        model=response["model"],
        status=closed.status,
        epoch=epoch,
        closed_at=closed.at,
        closed=end,
        response=msgspec.json.encode(response),
        input_items=_stored(own_items(opened)),
        output_items=_stored(response["output"]),
        records=records if isinstance(last, Closed) else (*records, end),
        background=opened.background,
        previous_response_id=response["previous_response_id"],
        conversation_id=conversation["id"] if conversation else None,
    )


def as_kept(outcome: Outcome, closed: Closed) -> Kept | Overruled:
    """What a closing, which wants the response to be closed as `closed`, makes of the store's answer."""
    match outcome:
        case Stored():
            return Kept(closed)
        case AlreadyClosed(closed=encoded):
            before = decode_record(encoded)
            assert isinstance(before, Closed)
            return Kept(before)
        case Deleted():
            return Kept(Closed("cancelled", closed.at), deleted=True)
        case Superseded():
            return Overruled()


def _stored(items: list[Json]) -> list[StoredItem]:
    return [StoredItem(item["id"], msgspec.json.encode(item)) for item in items]
