"""The TCP ports of the embedded SeaweedFS: found once, kept while they stay free."""

import json
import random
import socket
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from mailserver.runtime.embedded.process import EmbeddedError

# `weed mini` looks for its administration at the HTTP port plus this, whatever the gRPC option says
ADMIN_GRPC_OFFSET = 10000
EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
LOWEST = 10240
ATTEMPTS = 1000


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
    """Whether a server could listen on 127.0.0.1 at `port` now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # TIME_WAIT does not count
        try:
            probe.bind(("127.0.0.1", port))
            probe.listen(1)  # two sockets may be bound with SO_REUSEADDR, one may listen
        except OSError:
            return False
    return True


def taken(ports: SeaweedPorts) -> list[int]:
    """Return those of `ports` that somebody uses."""
    return [port for port in ports.all() if not is_free(port)]


def choose(kept: SeaweedPorts | None, rng: random.Random, low: int, high: int) -> SeaweedPorts:
    """Return `kept` with a new port between `low` and `high` for each one that is not free."""
    chosen: dict[str, int] = {}
    used: set[int] = set()
    for name in NAMES:
        offsets = (0, ADMIN_GRPC_OFFSET) if name == "admin" else (0,)
        old = [] if kept is None else [getattr(kept, name)]
        for port in (*old, *_candidates(rng, low, high - offsets[-1])):
            wanted = {port + offset for offset in offsets}
            if not wanted & used and all(map(is_free, wanted)):
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
