"""What goes wrong: a table of faults, each of which breaks something and mends it."""

import asyncio
import os
import random
import signal
from collections.abc import Awaitable, Callable

from mailserver.runtime.embedded.postgres import Postgres
from mailserver.runtime.embedded.seaweedfs import SeaweedFS
from tests.chaos.cluster import Cluster, Node, send_signal
from tests.chaos.proxy import S3_FAILURE, Proxy
from tests.running import descendants

Fault = Callable[[Cluster, random.Random], Awaitable[None]]


async def _kill_worker(cluster: Cluster, chance: random.Random) -> None:
    """The supervisor replaces it."""
    workers = [pid for node in cluster.nodes for pid in node.workers()]
    if workers:
        send_signal(chance.choice(workers), signal.SIGKILL)


async def _kill_node(cluster: Cluster, chance: random.Random) -> None:
    node = chance.choice(cluster.nodes)
    await node.kill()
    await asyncio.sleep(chance.uniform(0, 2))
    await node.start()


async def _restart_node(cluster: Cluster, chance: random.Random) -> None:
    node = chance.choice(cluster.nodes)
    assert await node.stop() == 0
    await node.start()


async def _freeze_worker(cluster: Cluster, chance: random.Random) -> None:
    """It sleeps while its leases end, and wakes up in the middle of what it did."""
    for pid in chance.choice(cluster.nodes).workers():
        send_signal(pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(chance.uniform(0.5, 8))
        finally:
            send_signal(pid, signal.SIGCONT)


async def _crash_postgresql(cluster: Cluster, chance: random.Random) -> None:
    """A backend dies: PostgreSQL ends all others and recovers."""
    assert cluster.postgres.pid is not None
    backends = list(descendants(cluster.postgres.pid))
    if backends:
        send_signal(chance.choice(backends), signal.SIGKILL)


async def _kill_postgresql(cluster: Cluster, chance: random.Random) -> None:
    await _kill(cluster.postgres, chance)


async def _kill_seaweedfs(cluster: Cluster, chance: random.Random) -> None:
    await _kill(cluster.seaweedfs, chance)


async def _kill(service: Postgres | SeaweedFS, chance: random.Random) -> None:
    assert service.pid is not None
    os.kill(service.pid, signal.SIGKILL)
    await service.wait_exit()
    await service.stop()
    await asyncio.sleep(chance.uniform(0, 2))
    await service.start()


async def _freeze_postgresql(cluster: Cluster, chance: random.Random) -> None:
    assert cluster.postgres.pid is not None
    await _freeze(cluster.postgres.pid, chance.uniform(0.5, 4))


async def _kill_pooler(cluster: Cluster, chance: random.Random) -> None:
    if cluster.pooler is not None:
        cluster.pooler.stop()
        await asyncio.sleep(chance.uniform(0, 2))
        await asyncio.to_thread(cluster.pooler.start)


async def _freeze_seaweedfs(cluster: Cluster, chance: random.Random) -> None:
    assert cluster.seaweedfs.pid is not None
    await _freeze(cluster.seaweedfs.pid, chance.uniform(0.5, 4))


async def _freeze(root: int, seconds: float) -> None:
    pids = [root, *descendants(root)]
    for pid in pids:
        send_signal(pid, signal.SIGSTOP)
    try:
        await asyncio.sleep(seconds)
    finally:
        for pid in pids:
            send_signal(pid, signal.SIGCONT)


def _wires(chance: random.Random, node: Node) -> Proxy:
    return chance.choice((node.database, node.s3))


async def _cut(cluster: Cluster, chance: random.Random) -> None:
    """Every connection of a node with one service breaks, and new ones are made at once."""
    await _wires(chance, chance.choice(cluster.nodes)).cut()


async def _partition(cluster: Cluster, chance: random.Random) -> None:
    """One node cannot reach a service for a while; the other can."""
    proxy = _wires(chance, chance.choice(cluster.nodes))
    proxy.refuses = True
    await proxy.cut()
    await asyncio.sleep(chance.uniform(0.5, 4))
    proxy.heal()


async def _delay(cluster: Cluster, chance: random.Random) -> None:
    proxy = _wires(chance, chance.choice(cluster.nodes))
    proxy.delay = chance.uniform(0.02, 0.3)
    await asyncio.sleep(chance.uniform(1, 4))
    proxy.heal()


async def _fail_s3(cluster: Cluster, chance: random.Random) -> None:
    """S3 answers every request with an error."""
    for node in cluster.nodes:
        node.s3.answer = S3_FAILURE
        await node.s3.cut()
    await asyncio.sleep(chance.uniform(0.5, 4))
    for node in cluster.nodes:
        node.s3.heal()


async def _break_peer(cluster: Cluster, chance: random.Random) -> None:
    """The server of the recipients loses every conversation."""
    cluster.peer.say = lambda line: "" if chance.random() < 0.3 else None
    await asyncio.sleep(chance.uniform(0.5, 4))
    cluster.peer.say = lambda line: None


FAULTS: dict[str, Fault] = {
    "kill worker": _kill_worker,
    "kill node": _kill_node,
    "restart node": _restart_node,
    "freeze worker": _freeze_worker,
    "crash postgresql": _crash_postgresql,
    "kill postgresql": _kill_postgresql,
    "freeze postgresql": _freeze_postgresql,
    "kill pooler": _kill_pooler,
    "kill seaweedfs": _kill_seaweedfs,
    "freeze seaweedfs": _freeze_seaweedfs,
    "cut": _cut,
    "partition": _partition,
    "delay": _delay,
    "fail s3": _fail_s3,
    "break peer": _break_peer,
}
