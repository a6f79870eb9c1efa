"""SELECT and FETCH 1:* (FLAGS) of a large mailbox over TLS, as a client waits for it.

Starts `mailserver dev` in a temporary folder, or measures a running server:
`python -m benchmarks.imap_flags --dev-json PATH`. A thousand messages are appended to INBOX and
copied into one mailbox until it is full, so its messages share a thousand emails; flags are read
from the rows of the mailbox alone. "First" is the first SELECT of the mailbox in that server.
"""

import argparse
import json
import socket
import ssl
import statistics
import time
from pathlib import Path
from typing import Any

from benchmarks.smtp_delivery import own_server

MESSAGES = 100_000
QUICK_MESSAGES = 10_000
BATCH = 1000  # messages that are appended; the others are copies
ROUNDS = 7
TARGET_MS = {"select_and_fetch_flags_again": 150}
FLAGS = (b"", b"\\Seen", b"\\Seen \\Answered", b"\\Flagged", b"\\Seen $Forwarded")


class Client:
    """As little of an IMAP client as can tell that all of an answer is there."""

    def __init__(self, document: dict[str, Any]) -> None:
        host, port = document["listeners"]["imaps"]
        context = ssl.create_default_context(cafile=document["ca"])
        plain = socket.create_connection((host, port), timeout=120)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = context.wrap_socket(plain, server_hostname="localhost")
        self._tag = 0
        self._read(b"* OK")
        account = document["accounts"][0]
        self.ask(f'LOGIN {account["login"]} "{account["password"]}"'.encode())

    def ask(self, command: bytes) -> bytes:
        """Send a command and return its whole answer, which must be OK."""
        self._tag += 1
        tag = b"t%d" % self._tag
        self._socket.sendall(tag + b" " + command + b"\r\n")
        return self._read(tag + b" OK")

    def send(self, octets: bytes) -> None:
        """Send what is answered later."""
        self._socket.sendall(octets)

    def _read(self, wanted: bytes) -> bytes:
        pieces = [b""]
        while True:
            pieces.append(self._socket.recv(1 << 18))
            if not pieces[-1]:
                raise RuntimeError("the server closed the connection")
            if pieces[-1].endswith(b"\n"):
                tail = b"".join(pieces[-2:])
                start = tail.rfind(b"\n", 0, -1) + 1
                if tail.startswith(wanted, start):
                    return b"".join(pieces)
                if tail.startswith(wanted.split()[0] + b" ", start) and wanted != b"* OK":
                    raise RuntimeError(tail[start:].decode("utf-8", "replace"))

    def close(self) -> None:
        """Leave."""
        self.ask(b"LOGOUT")
        self._socket.close()


def fill(client: Client, mailbox: bytes, count: int) -> None:
    """Make a mailbox of `count` messages without opening it."""
    body = b"From: a@example.org\r\nSubject: message %d\r\n\r\ntext\r\n"
    for number in range(BATCH):
        message = body % number
        client.ask(
            b"APPEND Drafts (%b) {%d+}\r\n%b" % (FLAGS[number % len(FLAGS)], len(message), message)
        )
    client.ask(b"CREATE " + mailbox)
    client.ask(b"SELECT Drafts")
    for _ in range(count // BATCH):
        client.ask(b"COPY 1:%d %b" % (BATCH, mailbox))
    client.ask(b"UNSELECT")


def measure(document: dict[str, Any], quick: bool) -> dict[str, object]:
    """Fill a mailbox and open it again and again on new connections."""
    count = QUICK_MESSAGES if quick else MESSAGES
    mailbox = b"benchmark-%d" % time.time_ns()
    filler = Client(document)
    started = time.perf_counter()
    fill(filler, mailbox, count)
    filled = time.perf_counter() - started
    filler.close()
    rounds = []
    for _ in range(ROUNDS):
        client = Client(document)
        started = time.perf_counter()
        client.ask(b"SELECT " + mailbox)
        selected = time.perf_counter()
        answer = client.ask(b"FETCH 1:* (FLAGS)")
        fetched = time.perf_counter()
        if answer.count(b" FETCH (FLAGS (") != count:
            raise RuntimeError("messages are missing")
        rounds.append((selected - started, fetched - selected))
        client.close()
    again = [select + fetch for select, fetch in rounds[1:]]
    return {
        "messages": count,
        "fill_seconds": round(filled, 1),
        "first_ms": {
            "select": round(rounds[0][0] * 1000, 1),
            "fetch_flags": round(rounds[0][1] * 1000, 1),
        },
        "again_ms": {
            "select": round(statistics.median(row[0] for row in rounds[1:]) * 1000, 1),
            "fetch_flags": round(statistics.median(row[1] for row in rounds[1:]) * 1000, 1),
            "select_and_fetch_flags": round(statistics.median(again) * 1000, 1),
            "slowest": round(max(again) * 1000, 1),
        },
        "target_ms": TARGET_MS,
    }


def run(quick: bool) -> dict[str, object]:
    """Measure a server of our own."""
    with own_server() as document:
        return measure(document, quick)


def main() -> None:
    """Print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--dev-json", type=Path, help="of a running `mailserver dev`")
    options = parser.parse_args()
    if options.dev_json is None:
        result = run(options.quick)
    else:
        result = measure(json.loads(options.dev_json.read_text()), options.quick)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
