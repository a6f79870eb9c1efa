"""What opening a folder costs over JMAP: Email/query and Email/get of 50, in one request.

One connection, plain HTTP, Basic credentials in every request, against `mailserver dev` in a
process of its own. Prints JSON: milliseconds at the client, and CPU of the server process alone.
"""

import argparse
import base64
import json
import os
import signal
import smtplib
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

USING = ["urn:ietf:params:jmap:core", "urn:ietf:params:jmap:mail"]
LIST_PROPERTIES = [
    "id", "threadId", "mailboxIds", "keywords", "from", "subject", "receivedAt", "size", "preview",
    "hasAttachment",
]  # fmt: skip
PAGE = 50
START_TIMEOUT = 120.0  # seconds
TICKS = os.sysconf("SC_CLK_TCK")


class Connection:
    """One HTTP connection that is kept, without the cost of a client library."""

    def __init__(self, host: str, port: int, login: str, password: str) -> None:
        self._socket = socket.create_connection((host, port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._basic = base64.b64encode(f"{login}:{password}".encode()).decode()
        self._host = f"{host}:{port}"
        self._buffer = b""

    def ask(self, method: str, path: str, body: bytes = b"") -> bytes:
        """Send a request and return the body of its answer, which must be 200."""
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: {self._host}\r\n"
            f"Authorization: Basic {self._basic}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        self._socket.sendall(head.encode() + body)
        while b"\r\n\r\n" not in self._buffer:
            self._read()
        answer, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        status, *fields = answer.decode("ascii").split("\r\n")
        if " 200 " not in status:
            raise RuntimeError(status)
        lengths = [each for each in fields if each.lower().startswith("content-length:")]
        length = int(lengths[0].partition(":")[2])
        while len(self._buffer) < length:
            self._read()
        found, self._buffer = self._buffer[:length], self._buffer[length:]
        return found

    def _read(self) -> None:
        data = self._socket.recv(1 << 18)
        if not data:
            raise RuntimeError("the server closed the connection")
        self._buffer += data

    def call(self, *calls: list[Any]) -> list[Any]:
        """Send method calls and return their responses."""
        body = json.dumps({"using": USING, "methodCalls": calls}).encode()
        responses: list[Any] = json.loads(self.ask("POST", "/jmap/api", body))["methodResponses"]
        return responses


def cpu(pid: int) -> float:
    """Return the CPU time of a process in milliseconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * 1000 / TICKS


def fill(listener: list[Any], login: str, messages: int) -> None:
    """Deliver messages as another server would."""
    text = "A line of a message that somebody wrote to somebody else.\r\n" * 40
    with smtplib.SMTP(*listener) as client:
        for number in range(messages):
            client.sendmail(
                f"person{number}@example.org",
                [login],
                f"From: Person {number} <person{number}@example.org>\r\nTo: <{login}>\r\n"
                f"Subject: Message number {number}\r\nDate: Mon, 02 Feb 2026 10:00:00 +0000\r\n"
                f"Message-ID: <{number}@example.org>\r\n\r\n{text}",
            )


def listing(account: str, mailbox: str, collapse: bool) -> bytes:
    """Return the request that a client sends to show a folder."""
    query = {
        "accountId": account,
        "filter": {"inMailbox": mailbox},
        "sort": [{"property": "receivedAt", "isAscending": False}],
        "collapseThreads": collapse,
        "limit": PAGE,
    }
    ids = {"resultOf": "0", "name": "Email/query", "path": "/ids"}
    get = {"accountId": account, "#ids": ids, "properties": LIST_PROPERTIES}
    calls = [["Email/query", query, "0"], ["Email/get", get, "1"]]
    return json.dumps({"using": USING, "methodCalls": calls}).encode()


def measure(connection: Connection, body: bytes, pid: int, rounds: int) -> dict[str, float]:
    """Send the same request many times."""
    for _ in range(rounds // 5):
        connection.ask("POST", "/jmap/api", body)
    times = []
    before = cpu(pid)
    for _ in range(rounds):
        started = time.perf_counter()
        answer = connection.ask("POST", "/jmap/api", body)
        times.append((time.perf_counter() - started) * 1000)
    used = (cpu(pid) - before) / rounds
    shown = json.loads(answer)["methodResponses"][1][1]["list"]
    if len(shown) != PAGE or not shown[0]["preview"]:
        raise RuntimeError("the answer is not a page of emails")
    times.sort()
    return {
        "p50_ms": round(times[rounds // 2], 3),
        "p95_ms": round(times[rounds * 95 // 100], 3),
        "server_cpu_ms": round(used, 3),
        "octets": len(answer),
    }


def started(process: "subprocess.Popen[bytes]", directory: Path) -> dict[str, Any]:
    """Wait until the server accepts connections and return what it says about itself."""
    deadline = time.monotonic() + START_TIMEOUT
    while not (directory / "dev.json").exists():
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError("mailserver dev did not start")
        time.sleep(0.05)
    about: dict[str, Any] = json.loads((directory / "dev.json").read_text())
    return about


def run(quick: bool) -> dict[str, Any]:
    """Measure a folder of 300 (quick) or 5,000 messages."""
    messages, rounds = (300, 300) if quick else (5000, 2000)
    with tempfile.TemporaryDirectory() as place:
        directory = Path(place)
        command = [sys.executable, "-m", "mailserver", "dev", "--ports", "free", "--data-dir"]
        process = subprocess.Popen(
            [*command, place], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            about = started(process, directory)
            alice = about["accounts"][0]
            fill(about["listeners"]["smtp"], alice["login"], messages)
            host, port = about["listeners"]["http"]
            connection = Connection(host, port, alice["login"], alice["password"])
            session = json.loads(connection.ask("GET", "/.well-known/jmap"))
            account = session["primaryAccounts"][USING[1]]
            mailboxes = connection.call(["Mailbox/get", {"accountId": account}, "0"])[0][1]["list"]
            inbox = next(each["id"] for each in mailboxes if each["role"] == "inbox")
            pid = about["pid"]
            return {
                "messages": messages,
                "list": measure(connection, listing(account, inbox, False), pid, rounds),
                "list_of_threads": measure(connection, listing(account, inbox, True), pid, rounds),
            }
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    print(json.dumps(run(parser.parse_args().quick), indent=2))
