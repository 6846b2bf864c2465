"""What may go wrong in the store that is no bug."""


class StoreUnavailable(Exception):
    """The database does not answer within `store_wait_s`, or can't write: to be tried again later.

    Nothing of the operation is known to be stored; each may be done again, with the same effect as once.
    """


class UnknownCursor(Exception):
    """A page was asked for relative to an item that is not in the list; the client's fault."""

    def __init__(self, item_id: str) -> None:
        super().__init__(item_id)
        self.item_id = item_id


class ReplayGone(Exception):
    """The response's log is not kept (any more): its replay retention has ended, or it was deleted meanwhile."""
