"""Users send: for each message a new TLS connection, a login and 20 kB; durable when answered."""

import asyncio
import base64
import json
import os
import ssl
import time
from typing import Any

from benchmarks.smtp_delivery import _run, own_server, usage

TARGETS = {"messages_per_second_a_core": 150}
MESSAGES, QUICK_MESSAGES = 3000, 600
CLIENTS = 16
SIZE = 20_000  # octets
LINE = b"a line of text that a person might have written to another one, of 80 octets.\r\n"
UNLIMITED = {
    "MAILSERVER_SENDING__MESSAGES_PER_HOUR": "0",
    "MAILSERVER_SENDING__MESSAGES_PER_DAY": "0",
    "MAILSERVER_SENDING__RECIPIENTS_PER_HOUR": "0",
    "MAILSERVER_SENDING__RECIPIENTS_PER_DAY": "0",
}


class Submissions:
    """Clients that each take the next message until none is left."""

    def __init__(self, document: dict[str, Any], count: int) -> None:
        self._address = document["listeners"]["submissions"]
        self._tls = ssl.create_default_context(cafile=document["ca"])
        account = document["accounts"][0]
        self._login = account["login"]
        secret = f"\0{self._login}\0{account['password']}".encode()
        self._auth = b"AUTH PLAIN " + base64.b64encode(secret) + b"\r\n"
        self._left = count

    async def run(self) -> float:
        """Send everything; return the seconds that it took."""
        began = time.monotonic()
        await asyncio.gather(*(self._client() for _ in range(CLIENTS)))
        return time.monotonic() - began

    async def _client(self) -> None:
        while self._left > 0:
            self._left -= 1
            await self._send(self._left)

    async def _send(self, number: int) -> None:
        host, port = self._address
        reader, writer = await asyncio.open_connection(
            host, port, ssl=self._tls, server_hostname="localhost"
        )
        await _expect(reader, b"220")
        for line, code in (
            (b"EHLO client.example.test\r\n", b"250"),
            (self._auth, b"235"),
            (f"MAIL FROM:<{self._login}>\r\n".encode(), b"250"),
            (b"RCPT TO:<someone@elsewhere.example>\r\n", b"250"),
            (b"DATA\r\n", b"354"),
            (self._message(number) + b".\r\n", b"250"),
            (b"QUIT\r\n", b"221"),
        ):
            writer.write(line)
            await _expect(reader, code)
        writer.close()

    def _message(self, number: int) -> bytes:
        header = (
            f"From: {self._login}\r\nTo: someone@elsewhere.example\r\nSubject: {number}\r\n\r\n"
        )
        return header.encode() + LINE * (SIZE // len(LINE))


async def _expect(reader: asyncio.StreamReader, code: bytes) -> None:
    while (line := await reader.readline())[3:4] == b"-":
        pass
    if not line.startswith(code):
        raise RuntimeError(f"not {code!r}: {line!r}")


def run(quick: bool = False) -> dict[str, object]:
    """Measure a whole server; what is sent is signed and queued, and leaves no further."""
    count = QUICK_MESSAGES if quick else MESSAGES
    with own_server({**os.environ, **UNLIMITED, "MAILSERVER_LOG__LEVEL": "warning"}) as document:
        _run(Submissions(document, 100).run())
        before, own = usage(document["pid"]), time.process_time()
        seconds = _run(Submissions(document, count).run())
        after, own = usage(document["pid"]), time.process_time() - own
    spent = {name: round((after[name] - before[name]) / count * 1000, 3) for name in after}
    return {
        "targets": TARGETS,
        "messages": count,
        "messages_per_second": round(count / seconds, 1),
        "messages_per_second_a_core": round(1000 / sum(spent.values()), 1),
        "cpu_ms_per_message": {**spent, "driver": round(own / count * 1000, 3)},
    }


if __name__ == "__main__":
    print(json.dumps(run(), indent=2))
