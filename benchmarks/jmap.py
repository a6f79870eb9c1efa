"""JMAP beside what is asked of it: one account of 100,000 messages, one mailbox of 50,000.

One connection, plain HTTP, Basic credentials in every request, against `mailserver dev` in a
process of its own; then eight connections. Prints JSON: milliseconds at the client, the CPU of the
server process and of PostgreSQL for each request, and whether the figure is what is asked for.
Bodies are not moved to S3 meanwhile. `--data-dir` keeps the messages for the next run.
"""

import argparse
import asyncio
import base64
import hashlib
import json
import os
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

from mailserver.app.access import access
from mailserver.mail import accounts, delivery, mailboxes
from mailserver.mail.context import Mail
from mailserver.mail.delivery import Incoming
from mailserver.model import AccountId, Flags, MailboxId
from tests.running import RunningServer, processes

CORE, MAIL = "urn:ietf:params:jmap:core", "urn:ietf:params:jmap:mail"
LIST_PROPERTIES = [
    "id", "threadId", "mailboxIds", "keywords", "from", "subject", "receivedAt", "size", "preview",
    "hasAttachment",
]  # fmt: skip
NEWEST = [{"property": "receivedAt", "isAscending": False}]
PAGE = 50
FIRST_DAY = datetime(2024, 1, 1, tzinfo=UTC)
BATCH = 32  # messages of one commit
ENVIRONMENT = {"MAILSERVER_MOVER__ENABLED": "false"}
TICKS = os.sysconf("SC_CLK_TCK")
CONNECTIONS = 8
SERVICES = ("postgres", "weed")

Connect = Callable[[], "Connection"]


class Connection:
    """One HTTP connection that is kept, without the cost of a client library."""

    def __init__(self, host: str, port: int, login: str, password: str) -> None:
        self._socket = socket.create_connection((host, port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._basic = base64.b64encode(f"{login}:{password}".encode()).decode()
        self._host = f"{host}:{port}"
        self._buffer = b""

    def ask(self, method: str, path: str, body: bytes = b"") -> bytes:
        """Send a request and return the body of its answer, which must be a success."""
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
        if " 20" not in status:
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
        """Send method calls and return their responses, none of which may be an error."""
        answer = json.loads(self.ask("POST", "/jmap/api", request(calls)))
        responses: list[Any] = answer["methodResponses"]
        for name, arguments, _ in responses:
            if name == "error":
                raise RuntimeError(str(arguments))
        return responses


def request(calls: Sequence[list[Any]]) -> bytes:
    """Write an API request."""
    return json.dumps({"using": [CORE, MAIL], "methodCalls": calls}).encode()


# The account -------------------------------------------------------------------------------------


def letters(number: int) -> Iterator[Incoming]:
    """Make messages, oldest first: threads of three, words as rare as in a language."""
    random = Random(1)
    words = [f"{random.choice('bcdfglmnprst')}{random.choice('aeiou')}{at}" for at in range(5000)]
    weights = [1 / (at + 10) for at in range(5000)]
    text = random.choices(words, weights, k=200_000)
    for at in range(number):
        thread = at - at % 3
        body_at = random.randrange(len(text) - 400)
        body = [" ".join(text[start : start + 10]) for start in range(body_at, body_at + 300, 10)]
        if at % 2000 == 0:
            body.append("xylophone")
        answers = f"References: <{thread}@example.org>\r\n" if at != thread else ""
        raw = (
            f"From: Person {at % 500} <person{at % 500}@example.org>\r\n"
            f"To: Alice <alice@example.test>\r\n"
            f"Subject: {'Re: ' if answers else ''}About {words[thread % 5000]} {thread}\r\n"
            f"Date: Mon, 02 Feb 2026 10:00:00 +0000\r\nMessage-ID: <{at}@example.org>\r\n"
            f"{answers}Content-Type: text/plain; charset=utf-8\r\n\r\n" + "\r\n".join(body)
        )
        flags = Flags.of(["\\Seen"] if at % 4 else [])
        yield Incoming(raw.encode(), flags, FIRST_DAY + timedelta(minutes=7 * at))


async def fill(directory: Path, login: str, number: int) -> None:
    """Store the messages, half of them in INBOX; one that has them already is left as it is."""
    async with access(directory, None, os.environ) as store:
        account = await accounts.find(store.mail, login)
        there = await mailboxes.list_all(store.mail, account.id)
        if sum(each.total for each in there) >= number:
            return
        inbox = there[0].id
        others = [each.id for each in there if each.path in ("Archive", "Sent")]
        waiting: dict[MailboxId, list[Incoming]] = {}
        for at, letter in enumerate(letters(number)):
            mailbox = inbox if at % 2 else others[at // 2 % 2]
            batch = waiting.setdefault(mailbox, [])
            batch.append(letter)
            if len(batch) == BATCH:
                await _store(store.mail, account.id, mailbox, waiting.pop(mailbox))
        for mailbox, batch in waiting.items():
            await _store(store.mail, account.id, mailbox, batch)
        await store.database.execute("VACUUM (ANALYZE) msg, email, change, search_word")


async def _store(mail: Mail, account: AccountId, mailbox: MailboxId, batch: list[Incoming]) -> None:
    await delivery.accept_together(mail, account, mailbox, batch)
    await mail.indexer.catch_up(account, 2 * BATCH)  # later it would be made during the figures


# The calls ---------------------------------------------------------------------------------------


def query(account: str, inbox: str, **more: Any) -> list[Any]:
    """Ask for the first page of a mailbox."""
    asked = {"accountId": account, "filter": {"inMailbox": inbox}, "sort": NEWEST, "limit": PAGE}
    return ["Email/query", asked | more, "0"]


def referring(account: str, of: str, name: str, path: str) -> dict[str, Any]:
    """Refer to the ids in an earlier response."""
    return {"accountId": account, "#ids": {"resultOf": of, "name": name, "path": path}}


def calls(account: str, inbox: str, newest: str, state: str) -> dict[str, tuple[float, list[Any]]]:
    """Return by name the milliseconds that a request may take, and its method calls."""
    listed = referring(account, "0", "Email/query", "/ids") | {"properties": LIST_PROPERTIES}
    threads = referring(account, "1", "Email/get", "/list/*/threadId")
    members = referring(account, "2", "Thread/get", "/list/*/emailIds")
    bodies = {"fetchTextBodyValues": True, "fetchHTMLBodyValues": True}
    first = referring(account, "0", "Email/query", "/ids") | {"properties": ["threadId"]}
    return {
        "echo": (0.5, [["Core/echo", {"hello": True}, "0"]]),
        "query": (1, [query(account, inbox)]),
        "query_collapsed": (1.5, [query(account, inbox, collapseThreads=True)]),
        "query_and_get": (2, [query(account, inbox), ["Email/get", listed, "1"]]),
        "four_calls": (
            4,
            [
                query(account, inbox, collapseThreads=True),
                ["Email/get", first, "1"],
                ["Thread/get", threads, "2"],
                ["Email/get", members | {"properties": LIST_PROPERTIES}, "3"],
            ],
        ),
        "text": (10, [query(account, inbox, filter={"text": "xylophone"})]),
        "bodies": (2, [["Email/get", {"accountId": account, "ids": [newest], **bodies}, "0"]]),
        "changes": (0.7, [["Email/changes", {"accountId": account, "sinceState": state}, "0"]]),
        # nothing is asked of these, but clients send them all the time
        "query_with_total": (0, [query(account, inbox, calculateTotal=True)]),
        "unread": (
            0,
            [query(account, inbox, filter={"inMailbox": inbox, "notKeyword": "$seen"})],
        ),
        "by_keyword": (
            0,
            [query(account, inbox, filter={"hasKeyword": "$flagged"}, calculateTotal=True)],
        ),
        "deep_page": (0, [query(account, inbox, position=20_000)]),
        "mailboxes": (0, [["Mailbox/get", {"accountId": account}, "0"]]),
    }


class Site:
    """The server that is measured."""

    def __init__(self, server: RunningServer, login: str) -> None:
        self.server = server
        self._login = login
        self._password = server.password(login)

    def connect(self) -> Connection:
        """Open a connection."""
        return Connection(*self.server.address("http"), self._login, self._password)

    def cpu(self) -> tuple[float, float]:
        """Return the CPU time of the server and of its PostgreSQL and S3, in milliseconds."""
        below = set(self.server.children())
        services = {pid for pid, _, name in processes() if pid in below and name in SERVICES}
        programs = {self.server.pid, *below} - services
        return sum(map(_cpu, programs)), sum(map(_cpu, services))


def _cpu(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) * 1000 / TICKS


def measure(site: Site, do: Callable[[], object], rounds: int, at_most: float) -> dict[str, Any]:
    """Do the same thing many times."""
    for _ in range(max(rounds // 10, 3)):
        do()
    times = []
    before = site.cpu()
    for _ in range(rounds):
        started = time.perf_counter()
        do()
        times.append((time.perf_counter() - started) * 1000)
    after = site.cpu()
    times.sort()
    p50 = times[rounds // 2]
    shown: dict[str, Any] = {
        "p50_ms": round(p50, 3),
        "p95_ms": round(times[rounds * 95 // 100], 3),
        "server_cpu_ms": round((after[0] - before[0]) / rounds, 3),
        "database_cpu_ms": round((after[1] - before[1]) / rounds, 3),
    }
    if at_most:
        shown |= {"asked_ms": at_most, "met": p50 <= at_most}
    return shown


def throughput(site: Site, body: bytes, seconds: float) -> dict[str, Any]:
    """Send the same request on several connections at once."""
    done = [0] * CONNECTIONS
    begin = threading.Barrier(CONNECTIONS + 1)
    until = 0.0

    def work(number: int) -> None:
        connection = site.connect()
        connection.ask("POST", "/jmap/api", body)
        begin.wait()
        begin.wait()
        while time.perf_counter() < until:
            connection.ask("POST", "/jmap/api", body)
            done[number] += 1

    threads = [threading.Thread(target=work, args=(number,)) for number in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    begin.wait()
    before, until = site.cpu(), time.perf_counter() + seconds
    begin.wait()
    for thread in threads:
        thread.join()
    after, requests = site.cpu(), sum(done)
    return {
        "requests_per_second": round(requests / seconds),
        "server_cpu_ms": round((after[0] - before[0]) / requests, 3),
        "database_cpu_ms": round((after[1] - before[1]) / requests, 3),
        "asked_per_second": 1500,
        "met": requests / seconds >= 1500,
    }


def changing(connection: Connection, account: str, inbox: str, newest: str) -> dict[str, Any]:
    """Return by name what is asked of requests that change something, and how to send one."""
    numbers = count()

    def flag() -> None:
        patch = {"keywords/$flagged": True if next(numbers) % 2 else None}
        asked = {"accountId": account, "update": {newest: patch}}
        connection.call(["Email/set", asked, "0"])

    def store() -> None:
        number = next(numbers)
        unique = hashlib.sha256(f"{number} {time.time()}".encode()).hexdigest()
        raw = f"Subject: {unique}\r\nMessage-ID: <{unique}@example.org>\r\n\r\n".encode()
        blob = json.loads(connection.ask("POST", f"/jmap/upload/{account}/", raw + b"x" * 10_000))
        given = {"blobId": blob["blobId"], "mailboxIds": {inbox: True}}
        asked = {"accountId": account, "emails": {"0": given}}
        connection.call(["Email/import", asked, "0"])

    return {"set_keyword": (3, flag), "upload_and_import": (8, store)}


def measured(site: Site, rounds: int) -> dict[str, Any]:
    """Measure every call."""
    connection = site.connect()
    session = json.loads(connection.ask("GET", "/.well-known/jmap"))
    account = session["primaryAccounts"][MAIL]
    shown = connection.call(["Mailbox/get", {"accountId": account}, "0"])[0][1]["list"]
    inbox = next(each["id"] for each in shown if each["role"] == "inbox")
    newest = connection.call(query(account, inbox))[0][1]["ids"][0]
    state = connection.call(["Email/get", {"accountId": account, "ids": []}, "0"])[0][1]["state"]
    asked = calls(account, inbox, newest, state)
    results: dict[str, Any] = {}
    for name, (at_most, batch) in asked.items():
        results[name] = _measured_call(site, connection, batch, rounds, at_most)
    results["eight_connections"] = throughput(site, request(asked["query_and_get"][1]), 5)
    for name, (at_most, do) in changing(connection, account, inbox, newest).items():
        results[name] = _attempt(site, do, max(rounds // 10, 5), at_most)
    return results


def _measured_call(
    site: Site, connection: Connection, batch: list[Any], rounds: int, at_most: float
) -> dict[str, Any]:
    started = time.perf_counter()
    shown = _attempt(site, partial(connection.call, *batch), 1, at_most)
    taken = time.perf_counter() - started
    if "failed" in shown:
        return shown
    send = partial(connection.ask, "POST", "/jmap/api", request(batch))
    return measure(site, send, max(5, min(rounds, int(10 / taken))), at_most)


def _attempt(site: Site, do: Callable[[], object], rounds: int, at_most: float) -> dict[str, Any]:
    """Measure what may be refused."""
    try:
        return measure(site, do, rounds, at_most)
    except RuntimeError as error:
        return {"failed": str(error), "met": False}


def run(quick: bool, data_dir: Path | None = None) -> dict[str, Any]:
    """Measure an account of 2,000 (quick) or 100,000 messages."""
    messages, rounds = (2000, 100) if quick else (100_000, 1000)
    with tempfile.TemporaryDirectory() as place:
        server = RunningServer(data_dir or Path(place) / "data", ENVIRONMENT)
        server.start()
        try:
            login = server.info["accounts"][0]["login"]
            asyncio.run(fill(server.directory, login, messages))
            return {"messages": messages, **measured(Site(server, login), rounds)}
        finally:
            server.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--data-dir", type=Path)
    options = parser.parse_args()
    print(json.dumps(run(options.quick, options.data_dir), indent=2))
