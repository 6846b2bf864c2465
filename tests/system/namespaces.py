"""Hosts that are network namespaces of this machine, on one switch: each has its own addresses, ports and loopback.

A namespace is an open file here: it lasts as long as that is open or a process runs in it, and so leaves nothing
behind, however a test ends. Whatever is made inside `with host:`, sockets and processes, is that host's for good.
"""

import ctypes
import os
import shutil
import subprocess
from pathlib import Path
from typing import Final, Self

_NEW_NETWORK: Final = 0x40000000  # CLONE_NEWNET
_LIBC: Final = ctypes.CDLL(None, use_errno=True)


def why_not() -> str | None:
    """Why there can be no such hosts on this machine, or None."""
    if shutil.which("ip") is None:
        return "there is no `ip` (iproute2)"
    try:
        switch = Switch()
        switch.host("probe")
    except OSError as error:
        return f"network namespaces can't be made: {error.strerror}"
    except subprocess.CalledProcessError as error:
        return f"network namespaces can't be linked: {error.stderr.decode().strip()}"
    switch.close()
    return None


class Namespace:
    """One network namespace; `with` moves the calling thread into it. Raises `OSError` where none may be made."""

    def __init__(self) -> None:
        self._home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        _check(_LIBC.unshare(_NEW_NETWORK))
        self._self = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        _check(_LIBC.setns(self._home, _NEW_NETWORK))
        self.run("link set lo up")

    def __enter__(self) -> Self:
        _check(_LIBC.setns(self._self, _NEW_NETWORK))
        return self

    def __exit__(self, *_: object) -> None:
        _check(_LIBC.setns(self._home, _NEW_NETWORK))

    @property
    def path(self) -> Path:
        """What `ip` takes for its name."""
        return Path(f"/proc/{os.getpid()}/fd/{self._self}")

    def run(self, command: str) -> None:
        """Have `ip` do this inside."""
        with self:
            subprocess.run(["ip", *command.split()], check=True, capture_output=True)

    def close(self) -> None:
        os.close(self._self)
        os.close(self._home)


class Switch(Namespace):
    """What the hosts' cables lead to."""

    def __init__(self) -> None:
        self.hosts: list[Host] = []
        super().__init__()
        self.run("link add switch type bridge")
        self.run("link set switch up")

    def host(self, name: str) -> "Host":
        """Another host."""
        host = Host(self, name, f"10.77.0.{len(self.hosts) + 1}")
        self.hosts.append(host)
        self.run(f"link add name {name} type veth peer name eth0 netns {host.path}")
        self.run(f"link set dev {name} master switch up")
        host.run(f"addr add {host.address}/24 dev eth0")
        host.run("link set eth0 up")
        return host

    def close(self) -> None:
        for host in self.hosts:
            host.close()
        super().close()


class Host(Namespace):
    """A host with one address."""

    def __init__(self, switch: Switch, name: str, address: str) -> None:
        super().__init__()
        self.name = name
        self.address = address
        self._switch = switch

    def cut(self) -> None:
        """Its cable is cut: nothing arrives, and nobody is told."""
        self._switch.run(f"link set dev {self.name} down")

    def heal(self) -> None:
        self._switch.run(f"link set dev {self.name} up")


def _check(result: int) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
