"""Where a worker listens for frontends: at its socket in the run directory, or, if so set, on TCP.

It is one or the other. Of a worker that was reached in two ways, a frontend that finds both would be two peers of one
name, and frontends on different hosts would call it by different names, by which they agree where a response is opened.
"""

from typing import NamedTuple

from engine_worker.config import Settings
from protocol.curve_files import WorkerKeys, worker_keys
from protocol.endpoints import listening_endpoint
from protocol.run_dir import worker_endpoint


class Listening(NamedTuple):
    """The endpoint to bind, and the keys of who may come in; without any whoever reaches it may."""

    endpoint: str
    keys: WorkerKeys | None


def listening(settings: Settings, worker: str) -> Listening:
    """Where the worker of this name listens. Raises `BadCurveKeys`, and `ValueError` where its slot has no port."""
    if not settings.listen:
        return Listening(worker_endpoint(settings.run_dir, worker), None)
    slot = int(worker.rpartition("-")[2])
    keys = worker_keys(settings.curve_dir, plain=settings.allow_plain_tcp)
    return Listening(listening_endpoint(settings.listen, slot), keys)
