"""vLLM's child processes: what they must not inherit, and their end, noticed at once.

vLLM notices their end too, but up to a second later: it waits for a pipe that the dead process's own children hold open
as well.
"""

import asyncio
import os
import signal
from collections.abc import Callable, Iterable
from functools import partial
from multiprocessing.process import BaseProcess


def part_signals() -> None:
    """Keep the signals of children forked from now on to themselves.

    A running event loop hears of signals through a pipe, and a forked child writes to the same one: the SIGTERM with
    which vLLM ends its child would reach this process's handler as well.
    """
    os.register_at_fork(after_in_child=partial(signal.set_wakeup_fd, -1))


class ChildWatch:
    """Calls `on_ended(name)` on the running loop for each of `children` that ends, until it is closed.

    Watches nothing on systems without process file descriptors; vLLM's own notice must do there.
    """

    def __init__(self, children: Iterable[BaseProcess], on_ended: Callable[[str], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._descriptors: list[int] = []
        for child in children:
            if child.pid is not None and hasattr(os, "pidfd_open"):
                descriptor = os.pidfd_open(child.pid)
                self._descriptors.append(descriptor)
                self._loop.add_reader(descriptor, partial(self._ended, descriptor, child.name, on_ended))

    def close(self) -> None:
        """Stop watching. Closing twice is fine."""
        while self._descriptors:
            self._forget(self._descriptors[-1])

    def _ended(self, descriptor: int, name: str, on_ended: Callable[[str], None]) -> None:
        self._forget(descriptor)
        on_ended(name)

    def _forget(self, descriptor: int) -> None:
        self._descriptors.remove(descriptor)
        self._loop.remove_reader(descriptor)
        os.close(descriptor)
