"""Which input items go when a prompt is too long and the request says `truncation: auto`: whole ones, oldest first."""

from collections.abc import Sequence

from engine_worker.engines.vllm.request import Json


class Shortening:
    """The shorter inputs of one request; `len` of them, the newest group of items alone being the shortest."""

    def __init__(self, items: Sequence[Json]) -> None:
        self._items = items
        self._group_of_item = _groups(items)

    def __len__(self) -> int:
        return max(self._group_of_item, default=0)

    def without_oldest(self, groups: int) -> tuple[Json, ...]:
        """The items without the oldest `groups` groups."""
        return tuple(item for item, group in zip(self._items, self._group_of_item, strict=True) if group >= groups)


def _groups(items: Sequence[Json]) -> list[int]:
    """The group of each item, numbered by its oldest item.

    A call and its output go together, and so does reasoning with the item it led to.
    """
    group_of_call: dict[str, int] = {}
    groups: list[int] = []
    newest = -1
    for index, item in enumerate(items):
        kind = item["type"]
        if kind == "function_call_output" and item["call_id"] in group_of_call:
            groups.append(group_of_call[item["call_id"]])
            continue
        if not (index and items[index - 1]["type"] == "reasoning"):
            newest += 1
        if kind == "function_call":
            group_of_call[item["call_id"]] = newest
        groups.append(newest)
    return groups
