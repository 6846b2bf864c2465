"""What the reader of a response wants of it."""

import msgspec


class Wish(msgspec.Struct, frozen=True):
    """What a reader wants.

    `stream`: the events after sequence number `after`, with `id:` lines when `event_ids`, and with keepalives that are
    events when `pings`. Otherwise the response alone: once it is closed (`to_the_end`), or as it is now.
    `asked`: the digest of a create that may join an earlier run, which must have been asked for with the same.
    `keeps_opened`: the session keeps the record `Opened`, with the whole input.
    `tenant`: who asks; to any but its own tenant a response does not exist. None is this frontend itself.
    """

    stream: bool = False
    after: int = -1
    event_ids: bool = False
    pings: bool = False
    to_the_end: bool = True
    asked: bytes | None = None
    keeps_opened: bool = False
    tenant: str | None = None
