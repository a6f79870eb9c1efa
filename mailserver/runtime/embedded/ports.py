"""The TCP ports of the embedded SeaweedFS: found once, kept while they stay free."""

import contextlib
import errno
import json
import os
import random
import socket
import stat
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from mailserver.runtime.embedded.process import EmbeddedError

# `weed mini` looks for its administration at the HTTP port plus this, whatever the gRPC option says
ADMIN_GRPC_OFFSET = 10000
EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
LOWEST = 10240
ATTEMPTS = 1000
PARTS = ("master", "volume", "filer", "s3", "admin")


@dataclass(frozen=True, slots=True)
class SeaweedPorts:
    """One HTTP and one gRPC port for each part of SeaweedFS; the administration's gRPC follows."""

    master: int
    master_grpc: int
    volume: int
    volume_grpc: int
    filer: int
    filer_grpc: int
    s3: int
    s3_grpc: int
    admin: int

    @property
    def admin_grpc(self) -> int:
        """Return the gRPC port of the administration."""
        return self.admin + ADMIN_GRPC_OFFSET

    def all(self) -> tuple[int, ...]:
        """Return every port."""
        return (*asdict(self).values(), self.admin_grpc)


NAMES = tuple(field.name for field in fields(SeaweedPorts))


def is_free(port: int) -> bool:
    """Whether nobody listens at `port`, on whatever address: `weed` asks for no less."""
    return all(_can_listen(family, port) for family in (socket.AF_INET, socket.AF_INET6))


def _can_listen(family: socket.AddressFamily, port: int) -> bool:
    try:
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # TIME_WAIT does not count
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            probe.bind(("", port))
            probe.listen(1)  # two sockets may be bound with SO_REUSEADDR, one may listen
    except OSError as error:
        return error.errno not in (errno.EADDRINUSE, errno.EACCES)  # else there is no IPv6
    return True


def taken(ports: SeaweedPorts) -> list[int]:
    """Return those of `ports` that somebody uses."""
    return [port for port in ports.all() if not is_free(port)]


def sockets(ports: SeaweedPorts) -> list[Path]:
    """Return the unix sockets it makes, by which its parts reach each other."""
    return [_socket(part, getattr(ports, f"{part}_grpc")) for part in PARTS]


def is_ours(path: Path) -> bool:
    """Whether `path` is a socket of our user, which `weed` and we may remove."""
    found = _look(path)
    return found is not None and _ours(found)


def blocked(ports: SeaweedPorts) -> list[Path]:
    """Return what lies in the place of a socket: left there by another user, or put there.

    `weed` cannot remove it and serves without the socket, and its parts wait for ever for an
    answer; or they talk to whoever listens there.
    """
    return [path for path in sockets(ports) if _is_blocked(path)]


def _socket(part: str, port: int) -> Path:
    return Path(f"/tmp/seaweedfs-{part}-grpc-{port}.sock")  # noqa: S108 (its choice)


def _look(path: Path) -> os.stat_result | None:
    with contextlib.suppress(FileNotFoundError):
        return path.lstat()
    return None


def _ours(found: os.stat_result) -> bool:
    return stat.S_ISSOCK(found.st_mode) and found.st_uid == os.geteuid()


def _is_blocked(path: Path) -> bool:
    found = _look(path)
    return found is not None and not _ours(found)


def _fits(name: str, port: int) -> bool:
    if not is_free(port):
        return False
    if name == "admin":
        return _fits("admin_grpc", port + ADMIN_GRPC_OFFSET)
    part, grpc, _ = name.partition("_grpc")
    return not (grpc and _is_blocked(_socket(part, port)))


def choose(kept: SeaweedPorts | None, rng: random.Random, low: int, high: int) -> SeaweedPorts:
    """Return `kept` with a new port between `low` and `high` for each one that cannot be used."""
    chosen: dict[str, int] = {}
    used: set[int] = set()
    for name in NAMES:
        offsets = (0, ADMIN_GRPC_OFFSET) if name == "admin" else (0,)
        old = [] if kept is None else [getattr(kept, name)]
        for port in (*old, *_candidates(rng, low, high - offsets[-1])):
            wanted = {port + offset for offset in offsets}
            if not wanted & used and _fits(name, port):
                chosen[name] = port
                used |= wanted
                break
        else:
            raise EmbeddedError("no free TCP ports for SeaweedFS on 127.0.0.1")
    return SeaweedPorts(**chosen)


def _candidates(rng: random.Random, low: int, high: int) -> Iterable[int]:
    return (rng.randint(low, high) for _ in range(ATTEMPTS))


def fixed_range() -> tuple[int, int]:
    """Return a range that the kernel does not hand out to outgoing connections, where it can be.

    A port out of the ephemeral range may be taken by any connection between our choice and the
    server's bind, or while the server is restarted.
    """
    try:
        low, high = (int(word) for word in EPHEMERAL.read_text("ascii").split())
    except (OSError, ValueError):
        low, high = 32768, 60999
    room = 2 * ADMIN_GRPC_OFFSET
    if low - LOWEST >= room:
        return LOWEST, low - 1
    if 65535 - high >= room:
        return high + 1, 65535
    return LOWEST, 65535


def load(path: Path) -> SeaweedPorts | None:
    """Read kept ports; None when there are none or the file is damaged."""
    try:
        found = json.loads(path.read_text("utf-8"))
        ports = SeaweedPorts(**{name: int(found[name]) for name in NAMES})
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
    return ports if all(0 < port < 65536 for port in ports.all()) else None


def dump(ports: SeaweedPorts) -> str:
    """Return the text that `load` reads."""
    return json.dumps(asdict(ports), indent=1) + "\n"
