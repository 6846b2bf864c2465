"""Which of several workers gets a new response: the one that most likely holds the beginning of its prompt, or the
least loaded. Pure functions; frontends share no state.

Theory of operation
    A response id tells its host: the digits after `resp_` are a digest of the worker's name. So whoever continues the
    response finds the worker that has its prompt cached, and continues it there; the first response of a chain goes to
    the least loaded worker. What names a conversation or a `prompt_cache_key` goes where all frontends that see the
    same workers send that key (highest random weight hashing). Neither counts where the worker has more than its share:
    then the least loaded one gets the response, and what continues it follows.

    Under an `Idempotency-Key` the id is the key's, and all frontends send it to the same worker, whatever its load.
"""

from collections.abc import Sequence
from hashlib import blake2b
from typing import Final

import msgspec

from frontend.api.request import RequestSettings
from frontend.workers import Worker

HOST_DIGITS: Final = 4
_PREFIX: Final = "resp_"
_SLACK: Final = 2
"""Responses by which any worker may exceed its share: among few, one more or less is no sign of load."""


class Affinity(msgspec.Struct, frozen=True):
    """What a prompt begins with, where that is known: the prompt and answer of the response that is continued
    (`previous`, its id), or whatever other requests of this `key` begin with."""

    previous: str = ""
    key: str = ""


def affinity_of(request: RequestSettings, tenant: str) -> Affinity:
    """Where a create says that its prompt begins as others did."""
    named = request.conversation.id if request.conversation is not None else request.prompt_cache_key
    return Affinity(request.previous_response_id or "", f"{tenant} {named}" if named else "")


def choose(workers: Sequence[Worker], affinity: Affinity, token: str, load_factor: float) -> Worker | None:
    """The worker for a new response. `token` is random, and spreads them over workers that are equally loaded.

    A worker has its share up to `load_factor` times the mean load of all, and a few more; 0: affinity does not count.
    """
    home = hinted(workers, affinity.previous)
    if home is None and (key := affinity.key or affinity.previous):
        home = by_rendezvous(workers, key)
    return home if _has_share(home, workers, load_factor) else least_loaded(workers, token)


def choose_by_id(workers: Sequence[Worker], response_id: str, load_factor: float) -> Worker | None:
    """The worker that the id was made for, unless it is not there or has more than its share by now."""
    home = hinted(workers, response_id)
    return home if _has_share(home, workers, load_factor) else least_loaded(workers, response_id)


def response_id_for(host: str, token: str) -> str:
    """The id of a response that is to be on this worker; `token` has 28 random hexadecimal digits."""
    return _PREFIX + _digest(host, HOST_DIGITS // 2).hex() + token


def hinted(workers: Sequence[Worker], response_id: str) -> Worker | None:
    """The worker on which the response most likely was at first."""
    hint = response_id.removeprefix(_PREFIX)[:HOST_DIGITS]
    return next((worker for worker in workers if _digest(worker.name, HOST_DIGITS // 2).hex() == hint), None)


def least_loaded(workers: Sequence[Worker], token: str) -> Worker | None:
    """The worker with the fewest responses; equals share the responses between them."""
    return min(workers, key=lambda worker: (worker.load(), -_weight(worker, token)), default=None)


def by_rendezvous(workers: Sequence[Worker], key: str) -> Worker | None:
    """The worker that every frontend which sees these workers chooses (highest random weight hashing)."""
    return max(workers, key=lambda worker: _weight(worker, key), default=None)


def _has_share(home: Worker | None, workers: Sequence[Worker], load_factor: float) -> bool:
    """Whether it may get one more."""
    if home is None or not load_factor:
        return False
    mean = sum(worker.load() for worker in workers) / len(workers)
    return home.load() + 1 <= load_factor * mean + _SLACK


def _weight(worker: Worker, key: str) -> int:
    return int.from_bytes(_digest(f"{worker.name} {key}", 8))


def _digest(text: str, size: int) -> bytes:
    return blake2b(text.encode(), digest_size=size).digest()
