"""Listening sockets, opened once by the supervisor and inherited by every worker.

Each worker has a socket of its own for each address, and the kernel spreads new connections over
them (SO_REUSEPORT): one socket for all was measured to leave one worker with four fifths of the
work. They stay open however workers come and go. The kernel resets the connections that wait in
the queue of a socket when the last process closes it, so a worker that merely took its socket with
it would lose connections at every restart.
"""

import contextlib
import os
import socket
from collections.abc import Iterable, Mapping
from typing import Any, Self

from mailserver.config import Listener
from mailserver.errors import ConfigurationError

BACKLOG = 1024  # connections that the kernel holds until they are accepted

Descriptors = dict[str, list[list[int]]]  # by listener and slot


class Sockets:
    """The listening sockets by listener; the second index is the slot, the third the address."""

    def __init__(self, groups: Mapping[str, tuple[Listener, list[list[socket.socket]]]]) -> None:
        self._groups = dict(groups)

    @classmethod
    def open(
        cls, listeners: Mapping[str, Listener], slots: int, before: "Sockets | None" = None
    ) -> Self:
        """Listen for `slots` workers; what `before` has for an unchanged listener is kept.

        Raises ConfigurationError when an address cannot be had; nothing new is open then.
        """
        groups: dict[str, tuple[Listener, list[list[socket.socket]]]] = {}
        with contextlib.ExitStack() as opened:
            for name, listener in listeners.items():
                kept = before._groups.get(name) if before is not None else None
                rows = list(kept[1]) if kept is not None and kept[0] == listener else []
                try:
                    fresh = _open(listener, slots - len(rows), rows)
                except OSError as error:
                    raise ConfigurationError(
                        f"listeners.{name}: cannot listen on {listener.host} port {listener.port}:"
                        f" {os.strerror(error.errno) if error.errno else error}"
                    ) from None
                for row in fresh:
                    for each in row:
                        opened.enter_context(each)
                groups[name] = (listener, rows + fresh)
            opened.pop_all()
        return cls(groups)

    @property
    def slots(self) -> int:
        """Return how many sockets there are for each address."""
        return max((len(rows) for _, rows in self._groups.values()), default=0)

    @property
    def addresses(self) -> dict[str, tuple[str, int]]:
        """Return the first address of each listener: host and port."""
        return {name: rows[0][0].getsockname()[:2] for name, (_, rows) in self._groups.items()}

    @property
    def descriptors(self) -> Descriptors:
        """Return the file descriptors, for a worker that inherits them."""
        return {
            name: [[each.fileno() for each in row] for row in rows]
            for name, (_, rows) in self._groups.items()
        }

    def close(self, but: "Sockets | None" = None) -> None:
        """Close all, except those that are also in `but`."""
        kept = set() if but is None else set(but._all())
        for each in self._all():
            if each not in kept:
                each.close()

    def _all(self) -> Iterable[socket.socket]:
        return (each for _, rows in self._groups.values() for row in rows for each in row)


def inherited(descriptors: Descriptors) -> dict[str, list[list[socket.socket]]]:
    """Return the sockets of descriptors that this process was started with."""
    return {
        name: [[socket.socket(fileno=number) for number in row] for row in rows]
        for name, rows in descriptors.items()
    }


def _open(
    listener: Listener, count: int, rows: list[list[socket.socket]]
) -> list[list[socket.socket]]:
    """Open `count` more sockets for each address of a listener that has `rows` already."""
    if count <= 0:
        return []
    known = [(each.family, each.getsockname()) for each in rows[0]] if rows else []
    places = known or _places(listener)
    return [[_listen(family, address) for family, address in places] for _ in range(count)]


def _places(listener: Listener) -> list[tuple[int, Any]]:
    """Return the addresses of a listener that nobody else listens at.

    With SO_REUSEPORT the kernel would let us share a port with another server of the same user, so
    each is first taken without it. That also chooses the port when it is 0.
    """
    found: list[tuple[int, Any]] = []
    port = listener.port
    for family, _, _, _, address in socket.getaddrinfo(
        listener.host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    ):
        host, _, *rest = address
        with socket.create_server((str(host), port), family=family) as probe:
            port = probe.getsockname()[1]
        found.append((family, (host, port, *rest)))
    return found


def _listen(family: int, address: Any) -> socket.socket:
    listening = socket.create_server(address[:2], family=family, backlog=BACKLOG, reuse_port=True)
    listening.setblocking(False)
    # accepted sockets inherit it; asyncio sets it only where the protocol is spelled out
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening
