"""Two nodes under a mixed load while everything around them breaks: no promise is broken.

`make chaos` runs it for half an hour; CHAOS_SECONDS and CHAOS_SEED say how long and how.
"""

import asyncio
import contextlib
import itertools
import json
import os
import random
import statistics
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.chaos.cluster import LOGINS, Cluster, Node, start_cluster
from tests.chaos.faults import FAULTS
from tests.chaos.ledger import Found, compare, name_of
from tests.chaos.load import Load, read_account

pytestmark = pytest.mark.faults

SECONDS = float(os.environ.get("CHAOS_SECONDS", "15"))
SEED = int(os.environ.get("CHAOS_SEED", "20261127"))
PACE = float(os.environ.get("CHAOS_PACE", "0.05"))  # seconds between two acts of one client
# a kill between the copy of a body and its row leaves an object, and fsck is there to tell
ORPHAN = "every object belongs to a blob"
# How what may be an error for the operator while everything breaks begins; no other line may.
ALARMS = (
    "S3 does not answer: old messages cannot be read, new ones are kept",
    "check failed: messages are delivered without it",
    "worker ended, starting another",
    "worker does not start",  # it was killed while it did
    "Cancel ",  # running tasks, in a stop while PostgreSQL is away
)
LONG = 600.0  # seconds from which on a run tells whether memory and open files grow, and of alarms
GROWTH = {"memory_kib": 1.3, "files": 1.3}  # of the last third over the second, medians
QUIET = 180.0  # seconds in which what waits must have left, once all is well again


@pytest_asyncio.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    cluster = await start_cluster(tmp_path, pooled=True)
    yield cluster
    await cluster.stop()


async def test_every_promise_is_kept(cluster: Cluster) -> None:
    chance = random.Random(SEED)
    load = Load(cluster, random.Random(SEED + 1), PACE)
    load.start()
    done: Counter[str] = Counter()
    samples: list[dict[str, dict[str, int]]] = []
    ends = time.monotonic() + SECONDS
    order: list[str] = []
    while not load.failed and _goes_on(load, time.monotonic() - ends):
        if not order:  # each fault once before any comes again
            order = sorted(FAULTS)
            chance.shuffle(order)
        await asyncio.sleep(chance.uniform(0.3, 3))  # how long all goes well is what varies
        name = order.pop()
        await FAULTS[name](cluster, chance)
        done[name] += 1
        samples.append({node.name: node.usage() for node in cluster.nodes if node.running})
    await load.stop()
    await _until_sent(cluster, load)
    arrived = Counter(name_of(each.content) for each in cluster.peer.received)
    differences = await asyncio.to_thread(cluster.fsck)
    _tell(load, done, arrived, samples)
    assert [each for each in differences if each["rule"] != ORPHAN] == []
    for node in cluster.nodes:  # both tell the same
        assert compare(load.ledger, await _read(cluster, node), arrived) == [], f"seed {SEED}"
    assert _all_kinds(load)
    if SECONDS >= LONG:
        assert _alarms(cluster) == []
        assert _growing(samples) == {}


def _goes_on(load: Load, over: float) -> bool:
    """Whether it is not time to stop; a busy machine gets more of it, to make promises at all."""
    return over < 0 or (over < QUIET and not _all_kinds(load))


def _all_kinds(load: Load) -> bool:
    """Whether each kind of promise was made."""
    ledger = load.ledger
    return bool(ledger.delivered and ledger.submitted and ledger.flags and ledger.places)


def _alarms(cluster: Cluster) -> list[dict[str, object]]:
    """Return what was logged as an error and should not have been."""
    found = []
    for line in itertools.chain.from_iterable(
        node.log.read_text().splitlines() for node in cluster.nodes
    ):
        with contextlib.suppress(ValueError):  # the last words of one that was killed
            entry = json.loads(line)
            wrong = entry["level"] in ("error", "critical")
            if wrong and not entry["message"].startswith(ALARMS):
                found.append(entry)
    return found


def _growing(samples: list[dict[str, dict[str, int]]]) -> dict[str, float]:
    """Return of what a node has much more in the last third of the run than in the second."""
    third = len(samples) // 3
    growth = {}
    for what, most in GROWTH.items():
        values = [[node[what] for node in each.values()] for each in samples]
        before, after = (
            statistics.median(itertools.chain.from_iterable(part))
            for part in (values[third : 2 * third], values[2 * third :])
        )
        if after > most * before:
            growth[what] = after / before
    return growth


async def _read(cluster: Cluster, node: Node) -> dict[str, Found]:
    return {login: await read_account(cluster, node, login) for login in LOGINS}


async def _until_sent(cluster: Cluster, load: Load) -> None:
    """Wait until everything that was to leave has left."""
    async with asyncio.timeout(QUIET):
        while True:
            arrived = {name_of(each.content) for each in cluster.peer.received}
            if load.ledger.submitted <= arrived:
                return
            cluster.peer.arrived.clear()
            await cluster.peer.arrived.wait()


def _tell(
    load: Load,
    done: Counter[str],
    arrived: Counter[str],
    samples: list[dict[str, dict[str, int]]],
) -> None:
    """Print what happened, for whoever runs it by hand."""
    ledger = load.ledger
    summary = {
        "seed": SEED,
        "seconds": SECONDS,
        "faults": dict(done),
        "delivered": sum(map(len, ledger.delivered.values())),
        "submitted": len(ledger.submitted),
        "sent twice": sum(times - 1 for times in arrived.values()),
        "flags": len(ledger.flags),
        "filed": len(ledger.places),
        "unsure flags": len(ledger.unsure),
        "refused": dict(ledger.refused),
        "broken connections": dict(ledger.broken),
        "usage": samples[:: max(1, len(samples) // 10)],
    }
    print(json.dumps(summary), file=sys.stderr)
