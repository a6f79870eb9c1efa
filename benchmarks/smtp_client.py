"""Our SMTP client on one connection that is used again: its CPU time a message.

smtp-sink of Postfix takes the messages by DATA, the listener of `benchmarks.receive` by BDAT; both
run in processes of their own and keep nothing. Beside it in the same run: aiosmtplib, where it can
be imported (`PYTHONPATH` may name a folder that has it). The system's share of the time is in it:
on the loopback the sender also pays for what the kernel does to hand the octets over.
"""

import argparse
import asyncio
import importlib
import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import uvloop

from benchmarks.receive import wait_for
from mailserver.smtp.outbound.connection import Connection, Timeouts
from mailserver.smtp.protocol.client import Envelope, RecipientLine

TARGETS = {"cpu_ms_per_message": {"5kB": 0.1, "1MB": 1.0}}
SIZES = {"5kB": 5_000, "1MB": 1_000_000}
COUNTS = {"5kB": 500, "1MB": 30}  # messages of a round
ROUNDS, QUICK_ROUNDS = 20, 6  # of which the cheapest counts: the others were disturbed
LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "uvloop": uvloop.new_event_loop,  # as in the server
    "asyncio": asyncio.new_event_loop,
}
HEADER = (
    b"From: a@bench.test\r\nTo: b@bench.test\r\nSubject: benchmark\r\n"
    b"Message-ID: <1@bench.test>\r\nDate: Mon, 1 Jan 2026 00:00:00 +0000\r\n\r\n"
)
LINE = b"Here is a line of text that a person  might have written to another one.\r\n"
DOTTED = b".signature\r\n"  # each hundredth line: it must be stuffed
PATH = f"{os.environ.get('PATH', '')}:/usr/sbin"

Send = Callable[[], Awaitable[object]]


def run(quick: bool = False) -> dict[str, Any]:
    """Measure each client with each loop; smtp-sink must be installed."""
    sink = shutil.which("smtp-sink", path=PATH)
    if sink is None:
        return {"skipped": "smtp-sink of Postfix is not installed"}
    rounds = QUICK_ROUNDS if quick else ROUNDS
    results: dict[str, Any] = {"targets": TARGETS}
    with _sink(sink) as by_data, _listener() as by_bdat:
        for name, port, client in (
            ("data", by_data, _ours),
            ("bdat", by_bdat, _ours),
            ("aiosmtplib", by_data, _aiosmtplib),
        ):
            if client is _aiosmtplib and importlib.util.find_spec("aiosmtplib") is None:
                results[name] = {"skipped": "aiosmtplib is not installed"}
                continue
            results[name] = {}
            for loop, factory in LOOPS.items():
                with asyncio.Runner(loop_factory=factory) as runner:
                    results[name][loop] = runner.run(_measured(client, port, rounds))
    return results


async def _measured(client: Any, port: int, rounds: int) -> dict[str, float]:
    found = {}
    for name, size in SIZES.items():
        async with client(port, _message(size)) as send:
            await _cpu(send, COUNTS[name] // 10)  # warm
            seconds = [await _cpu(send, COUNTS[name]) for _ in range(rounds)]
        found[name] = round(1000 * min(seconds) / COUNTS[name], 4)
    return found


async def _cpu(send: Send, count: int) -> float:
    """Return the seconds of CPU that so many messages cost this process, one after the other."""
    before = time.process_time()
    for _ in range(count):
        await send()
    return time.process_time() - before


def _message(size: int) -> bytes:
    block = LINE * 99 + DOTTED
    body = block * (size // len(block) + 1)
    end = body.rindex(b"\r\n", 0, size - len(HEADER)) + 2
    return HEADER + body[:end]


@asynccontextmanager
async def _ours(port: int, message: bytes) -> AsyncIterator[Send]:
    connection = await Connection.open("mx.bench.test", "127.0.0.1", port, Timeouts(), None)
    await connection.hello("mail.bench.test")
    assert "PIPELINING" in connection.extensions

    async def send() -> None:
        # as a courier does: an envelope of its own for each
        envelope = Envelope("a@bench.test", (RecipientLine("b@bench.test"),), len(message))
        (reply,) = await connection.send(envelope, message, _nothing)
        assert reply.code == 250, reply

    yield send
    await connection.quit()


def _nothing() -> None:
    """Stand for the check that the lease still holds, which reads a clock."""


@asynccontextmanager
async def _aiosmtplib(port: int, message: bytes) -> AsyncIterator[Send]:
    library = importlib.import_module("aiosmtplib")  # no dependency of this project
    client = library.SMTP(hostname="127.0.0.1", port=port, start_tls=False, timeout=60)
    await client.connect()

    async def send() -> None:
        await client.sendmail("a@bench.test", ["b@bench.test"], message)

    yield send
    await client.quit()


@contextmanager
def _sink(program: str) -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    user = ["-u", "nobody"] if os.geteuid() == 0 else []
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            [program, *user, f"127.0.0.1:{port}", "100"], stdout=said, stderr=said
        )
        try:
            wait_for(port)
            yield port
        finally:
            process.kill()
            process.wait()


@contextmanager
def _listener() -> Iterator[int]:
    """Run our own listener, which offers CHUNKING; smtp-sink does not."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.receive", "--serve", "mailserver"],
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        yield int(process.stdout.readline())
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--quick", action="store_true", help="fewer rounds")
    print(json.dumps(run(arguments.parse_args().quick), indent=2))


if __name__ == "__main__":
    main()
