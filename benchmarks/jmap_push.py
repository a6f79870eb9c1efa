"""How soon a client that listens is told of a change: by SMTP, by IMAP, by another process.

An event stream and a WebSocket are open against `mailserver dev` in a process of its own. Prints
JSON: milliseconds from just before the change is made, its acknowledgement included, until each of
them has the state change.
"""

import argparse
import asyncio
import base64
import imaplib
import json
import signal
import smtplib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from mailserver.app.access import access
from mailserver.mail import accounts, delivery
from mailserver.mail.delivery import Target

START_TIMEOUT = 120.0  # seconds
GAP = 0.1  # seconds between two changes
MESSAGE = b"From: c@example.org\r\nSubject: benchmark\r\n\r\nHello\r\n" + b"x" * 2000 + b"\r\n"


class Stream:
    """An event stream."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer  # which closes the connection when nobody has it

    @classmethod
    async def open(cls, host: str, port: int, basic: str) -> "Stream":
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(
            f"GET /jmap/events?types=*&closeafter=no&ping=0 HTTP/1.1\r\nHost: {host}:{port}\r\n"
            f"Authorization: Basic {basic}\r\n\r\n".encode()
        )
        await reader.readuntil(b": \n\n")
        return cls(reader, writer)

    async def told(self) -> float:
        """Return when the next state change came."""
        await self._reader.readuntil(b"event: state\n")
        return time.perf_counter()


class Socket:
    """A WebSocket with push."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket

    @classmethod
    async def open(cls, host: str, port: int, basic: str) -> "Socket":
        socket = await connect(
            f"ws://{host}:{port}/jmap/ws",
            additional_headers={"Authorization": f"Basic {basic}"},
            subprotocols=[Subprotocol("jmap")],
        )
        await socket.send(json.dumps({"@type": "WebSocketPushEnable", "dataTypes": None}))
        request = {"@type": "Request", "using": [], "methodCalls": []}
        await socket.send(json.dumps(request))
        await socket.recv()
        return cls(socket)

    async def told(self) -> float:
        """Return when the next state change came."""
        while json.loads(await self._socket.recv())["@type"] != "StateChange":
            pass
        return time.perf_counter()

    async def close(self) -> None:
        """Close it."""
        await self._socket.close()


async def timed(
    change: Callable[[], Awaitable[object]], listeners: dict[str, Stream | Socket], count: int
) -> dict[str, object]:
    """Make changes one by one; return percentiles of the time until each listener was told."""
    taken: dict[str, list[float]] = {name: [] for name in listeners}
    for _ in range(count):
        waits = {name: asyncio.create_task(each.told()) for name, each in listeners.items()}
        await asyncio.sleep(GAP)
        start = time.perf_counter()
        await change()
        for name, wait in waits.items():
            taken[name].append((await wait - start) * 1000)
    return {
        name: {"p50_ms": round(statistics.median(each), 2), "max_ms": round(max(each), 2)}
        for name, each in taken.items()
    }


async def measure(directory: Path, document: dict[str, Any], count: int) -> dict[str, object]:
    """Change the account of alice in several ways."""
    login, password = (document["accounts"][0][name] for name in ("login", "password"))
    host, port = document["listeners"]["http"]
    basic = base64.b64encode(f"{login}:{password}".encode()).decode()
    listeners: dict[str, Stream | Socket] = {
        "event_source": await Stream.open(host, port, basic),
        "web_socket": await Socket.open(host, port, basic),
    }
    smtp = smtplib.SMTP(*document["listeners"]["smtp"])
    smtp.ehlo("benchmark.example.org")

    def by_smtp() -> None:
        smtp.sendmail("c@example.org", [login], MESSAGE)

    imap = imaplib.IMAP4(*document["listeners"]["imap"])
    imap.starttls()
    imap.login(login, password)
    imap.select()
    flags = iter(["+FLAGS", "-FLAGS"] * count)

    def by_imap() -> None:
        imap.store("1", next(flags), "(\\Flagged)")

    results: dict[str, object] = {
        "smtp": await timed(lambda: asyncio.to_thread(by_smtp), listeners, count)
    }
    imap.noop()
    results["imap_store"] = await timed(lambda: asyncio.to_thread(by_imap), listeners, count)
    async with access(directory, None, {}) as store:
        account = await accounts.find(store.mail, login)

        async def by_process() -> None:
            await delivery.accept(
                store.mail, MESSAGE, [Target(account.id)], received_at=datetime.now(UTC)
            )

        results["another_process"] = await timed(by_process, listeners, count)
    socket = listeners["web_socket"]
    assert isinstance(socket, Socket)
    await socket.close()
    smtp.quit()
    imap.logout()
    return results


def run(quick: bool) -> dict[str, object]:
    """Start the server, measure, stop it."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        process = subprocess.Popen(
            [sys.executable, "-m", "mailserver", "dev", "--data-dir", name, "--ports", "free"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            document = _started(directory / "dev.json")
            return asyncio.run(measure(directory, document, 20 if quick else 200))
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(60)


def _started(file: Path) -> dict[str, Any]:
    deadline = time.monotonic() + START_TIMEOUT
    while not file.exists():
        if time.monotonic() > deadline:
            raise RuntimeError("the server does not start")
        time.sleep(0.1)
    document: dict[str, Any] = json.loads(file.read_bytes())
    return document


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--quick", action="store_true", help="20 changes of each kind, not 200")
    print(json.dumps(run(arguments.parse_args().quick), indent=2))
