"""CPU time of a question to DNS: to a validating resolver on loopback, and to what is remembered.

Every name is new and signed, so the answers have signatures; 50 questions are under way at a time.
dnspython beside it asks the same, with an answer parsed to the same depth.
"""

import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import dns.asyncquery
import dns.message
import uvloop

from mailserver.config import Dns
from mailserver.dns import Resolver
from tests.signed_dns import SignedDns

TARGETS_MS = {"uvloop": 0.06, "remembered": 0.005}
TOGETHER = 50
Ask = Callable[[str], Awaitable[object]]


async def _each(ask: Ask, names: list[str]) -> dict[str, float]:
    """Ask for all names, and return milliseconds of CPU each and questions a second."""
    left = iter(names)

    async def some() -> None:
        for name in left:
            await ask(name)

    cpu, wall = time.process_time(), time.perf_counter()
    await asyncio.gather(*(some() for _ in range(TOGETHER)))
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return {
        "cpu_ms": round(1000 * cpu / len(names), 4),
        "per_second": round(len(names) / wall),
    }


async def _measure(server: SignedDns, mark: str, count: int) -> dict[str, object]:
    settings = Dns.model_validate({"servers": server.server, "validating": True})
    resolver = Resolver(settings, time.monotonic)

    async def dnspython(name: str) -> None:
        query = dns.message.make_query(name, "TXT", want_dnssec=True, payload=1232)
        await dns.asyncquery.udp_with_fallback(
            query, "127.0.0.1", port=server.port, timeout=4, ignore_unexpected=True
        )

    def names(what: str) -> list[str]:
        return [f"{what}-{mark}-{number}.wild.test" for number in range(count)]

    own = names("own")
    result: dict[str, object] = {"new": await _each(resolver.txt, own)}
    result["remembered"] = await _each(resolver.txt, own)
    result["dnspython"] = await _each(dnspython, names("dnspython"))
    return result


async def _serve() -> SignedDns:
    folder = Path(tempfile.mkdtemp(prefix="dns-benchmark-"))
    server = SignedDns(folder)
    await server.start()
    return server


def run(quick: bool) -> dict[str, object]:
    """Return milliseconds of CPU, best of three rounds, on both event loops."""
    count = 500 if quick else 3_000

    async def rounds(mark: str) -> dict[str, object]:
        server = await _serve()
        try:
            return {
                str(number): await _measure(server, f"{mark}{number}", count) for number in range(3)
            }
        finally:
            await server.stop()

    results: dict[str, object] = {"targets_ms": TARGETS_MS, "questions": count}
    for name, factory in (("asyncio", asyncio.new_event_loop), ("uvloop", uvloop.new_event_loop)):
        with asyncio.Runner(loop_factory=factory) as runner:
            results[name] = _best(runner.run(rounds(name)))
    return results


def _best(rounds: dict[str, object]) -> dict[str, object]:
    best: dict[str, object] = {}
    for each in rounds.values():
        assert isinstance(each, dict)
        for name, measured in each.items():
            kept = best.get(name)
            if not isinstance(kept, dict) or measured["cpu_ms"] < kept["cpu_ms"]:
                best[name] = measured
    return best


if __name__ == "__main__":
    import json

    print(json.dumps(run(quick=False), indent=2))
