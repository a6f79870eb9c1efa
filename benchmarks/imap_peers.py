"""IMAP beside Dovecot: the same load on both in one run, and how each figure compares.

A load driver, which is a program of its own (`--driver PATH`), does the same work against
`mailserver dev` and against Dovecot, if that is installed, one group of its phases after the other
on each, so that both meet the same machine. Prints JSON: what was measured of both, the ratio
(above 1: ours is better) and whether the figure is what is asked for. CPU is that of the whole
tree of processes, PostgreSQL and SeaweedFS included. Bodies are not moved to S3 meanwhile: that
begins a minute after they came, and would be measured in whatever runs then. Loopback only.
"""

import argparse
import asyncio
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import dovecot
from mailserver.app.access import access
from mailserver.auth.passwords import Passwords
from mailserver.mail import accounts
from mailserver.mail.context import Mail
from tests.running import RunningServer

DRIVER = Path("../shared/bench/imap_load.py")
DOMAIN = "example.test"
PASSWORD = "password-of-the-benchmark"
USERS = (*range(1, 18), *range(100, 1100))
ENVIRONMENT = {
    "MAILSERVER_IMAP__ALLOW_PLAINTEXT_LOGIN": "true",
    "MAILSERVER_MOVER__ENABLED": "false",
}
PARALLEL = 8  # accounts that are made at once
DRIVER_TIMEOUT = 3600.0  # seconds for one group of phases
# the driver fills the large mailbox in `seed`, and only in the same run knows a first FETCH as such
GROUPS = (
    ("login",),
    ("append",),
    ("seed", "select", "fetch", "store", "search", "sort", "copymove"),
    ("idle",),
    ("mixed",),
    ("idleconns",),
)
SECURE = ("idleconns",)  # phases that are measured over TLS


class Goal(NamedTuple):
    """What a row of the driver should say."""

    row: str  # regular expression
    field: str
    wanted: float
    unit: str
    at_most: bool = False


GOALS = (
    Goal(r"connect\+LOGIN\+LOGOUT, 1 conn", "per_s", 600, "/s"),
    Goal(r"connect\+LOGIN\+LOGOUT, 16 conn", "per_s", 800, "/s"),
    Goal(r"APPEND, 1 conn", "per_s", 600, "msg/s"),
    Goal(r"APPEND, 16 conn, 16 users", "per_s", 1800, "msg/s"),
    Goal(r"APPEND, 16 conn, one mailbox", "per_s", 1800, "msg/s"),
    Goal(r"SELECT \d+, new connection", "p50_ms", 1.0, "ms", at_most=True),
    Goal(r"SELECT \d+, same connection", "p50_ms", 0.3, "ms", at_most=True),
    Goal(r"STATUS .*", "p50_ms", 0.25, "ms", at_most=True),
    Goal(r"LIST .*", "p50_ms", 0.25, "ms", at_most=True),
    Goal(r"NOOP .*", "p50_ms", 0.25, "ms", at_most=True),
    Goal(r"FETCH 1:\* \(UID FLAGS\), again", "per_s", 1_500_000, "msg/s"),
    Goal(r"FETCH 1:\* \(UID FLAGS ENVELOPE BODYSTRUCTURE\), first.*", "per_s", 150_000, "msg/s"),
    Goal(r"FETCH 1:\* \(UID FLAGS ENVELOPE BODYSTRUCTURE\), again", "per_s", 200_000, "msg/s"),
    Goal(r"FETCH 1:\* ALL-but-body.*, first.*", "per_s", 60_000, "msg/s"),
    Goal(r"FETCH 1:\* ALL-but-body.*, again", "per_s", 200_000, "msg/s"),
    Goal(r"FETCH 1:\* \(UID BODY.PEEK\[\]\), first", "per_s", 20_000, "msg/s"),
    Goal(r"FETCH 1:\* \(UID BODY.PEEK\[\]\), again", "per_s", 20_000, "msg/s"),
    Goal(r"UID FETCH page of 50 .*", "p50_ms", 1.0, "ms", at_most=True),
    Goal(r"UID FETCH one \(BODY.PEEK\[\]\), 1 conn", "p50_ms", 0.5, "ms", at_most=True),
    Goal(r"UID FETCH one \(BODY.PEEK\[\]\), 16 conn", "per_s", 4000, "msg/s"),
    Goal(r"UID STORE one flag, 1 conn", "p50_ms", 1.0, "ms", at_most=True),
    Goal(r"STORE 1:\* \+FLAGS.SILENT .*", "per_s", 150_000, "msg/s"),
    Goal(r"STORE 1:\* \+FLAGS \(.*", "per_s", 150_000, "msg/s"),
    Goal(r"UID SEARCH FROM .*", "p50_ms", 8, "ms", at_most=True),
    Goal(r"UID SEARCH SUBJECT .*", "p50_ms", 8, "ms", at_most=True),
    Goal(r"UID SEARCH BODY (?!<).*", "p50_ms", 60, "ms", at_most=True),
    Goal(r"UID SEARCH BODY (?!<).*", "first_ms", 60, "ms", at_most=True),
    Goal(r"UID SEARCH BODY <common word>", "p50_ms", 60, "ms", at_most=True),
    Goal(r"UID SORT \(REVERSE DATE\) UTF-8 ALL", "p50_ms", 10, "ms", at_most=True),
    Goal(r"UID THREAD REFERENCES .*", "p50_ms", 15, "ms", at_most=True),
    Goal(r"COPY 1:.*", "per_s", 30_000, "msg/s"),
    Goal(r"MOVE 1:.*", "per_s", 30_000, "msg/s"),
    Goal(r"EXPUNGE", "per_s", 30_000, "msg/s"),
    Goal(r"IDLE: APPEND OK -> told", "p50_ms", 5, "ms", at_most=True),
    Goal(r"\d+ idle connections, memory", "kb_per_conn", 45, "kB each", at_most=True),
    Goal(r"mixed, \d+ clients", "per_s", 6000, "commands/s"),
)


@dataclass(frozen=True, slots=True)
class Peer:
    """A server that is measured."""

    name: str
    pid: int
    plain: int  # ports
    secure: int


class OnePassword(Passwords):
    """Hashes the one password of all accounts once: a thousand of them are made in seconds."""

    def __init__(self) -> None:
        super().__init__()
        self._hashed: asyncio.Task[str] | None = None

    async def hash(self, password: str) -> str:
        """Return the hash, which is the same for every account."""
        if self._hashed is None:
            self._hashed = asyncio.create_task(super().hash(password))
        return await self._hashed

    async def scram_keys(self, password: str) -> str | None:
        """Make none: LOGIN does not need them."""
        return None


async def make_accounts(directory: Path) -> None:
    """Make the accounts that the driver logs in to, as far as they are missing."""
    gate = asyncio.Semaphore(PARALLEL)

    async def make(mail: Mail, login: str) -> None:
        async with gate:
            await accounts.create(mail, login, password=PASSWORD)

    async with access(directory, None, os.environ) as store:
        store.mail.passwords = OnePassword()
        known = {account.login for account in await accounts.list_all(store.mail)}
        logins = [f"u{number}@{DOMAIN}" for number in USERS]
        await asyncio.gather(*(make(store.mail, each) for each in logins if each not in known))
        store.mail.passwords.close()


@contextmanager
def ours(directory: Path) -> Iterator[Peer]:
    """Run the server with all accounts."""
    server = RunningServer(directory, ENVIRONMENT)
    try:
        server.start()
        asyncio.run(make_accounts(directory))
        yield Peer("ours", server.pid, server.address("imap")[1], server.address("imaps")[1])
    finally:
        server.close()


@contextmanager
def theirs(directory: Path, tls: Path) -> Iterator[Peer]:
    """Run Dovecot with the certificate of our server."""
    certificate, key = tls / "server.pem", tls / "server.key"
    with dovecot.running(directory, PASSWORD, certificate, key) as running:
        yield Peer("dovecot", running.pid, running.plain, running.secure)


def load(peer: Peer, driver: Path, phases: Sequence[str], messages: int) -> dict[str, Any]:
    """Run phases of the driver on a server; return its rows and failures."""
    secure = all(phase in SECURE for phase in phases)
    with tempfile.NamedTemporaryFile(suffix=".json") as report:
        done = subprocess.run(
            [
                *(sys.executable, str(driver), "--label", peer.name, "--json", report.name),
                *("--port", str(peer.secure if secure else peer.plain)),
                *(("--tls",) if secure else ()),
                *("--user", f"u%d@{DOMAIN}", "--password", PASSWORD),
                *("--server-pid", str(peer.pid), "--messages", str(messages)),
                *("--phases", ",".join(phases)),
            ],
            stdout=sys.stderr.fileno(), timeout=DRIVER_TIMEOUT, check=False,
        )  # fmt: skip
        text = Path(report.name).read_text()
    if not text:
        raise RuntimeError(f"the driver ended with {done.returncode}")
    found: dict[str, Any] = json.loads(text)
    return found


def compared(reports: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Return a line for each goal: ours, theirs, the ratio, whether it is met."""
    lines = []
    for goal in GOALS:
        values = {name: _value(goal, rows) for name, rows in reports.items()}
        mine, other = values.get("ours"), values.get("dovecot")
        if mine is None:
            continue
        line: dict[str, Any] = {"figure": _name(goal, reports["ours"]), "unit": goal.unit}
        line |= {"ours": mine, "dovecot": other, "ratio": None, "goal": goal.wanted}
        if mine and other:
            line["ratio"] = round(other / mine if goal.at_most else mine / other, 2)
        line["met"] = mine <= goal.wanted if goal.at_most else mine >= goal.wanted
        lines.append(line)
    return lines


def _row(goal: Goal, rows: list[dict[str, Any]]) -> dict[str, Any] | None:
    return next((row for row in rows if re.fullmatch(goal.row, row["name"])), None)


def _value(goal: Goal, rows: list[dict[str, Any]]) -> float | None:
    found = _row(goal, rows)
    value: float | None = None if found is None else found.get(goal.field)
    return value


def _name(goal: Goal, rows: list[dict[str, Any]]) -> str:
    found = _row(goal, rows)
    assert found is not None
    return f"{found['name']}, first time" if goal.field == "first_ms" else str(found["name"])


def measure(driver: Path, phases: Sequence[str], messages: int) -> dict[str, Any]:
    """Load both servers and compare."""
    reports: dict[str, list[dict[str, Any]]] = {}
    failures: list[str] = []
    with tempfile.TemporaryDirectory(prefix="mailserver-bench-") as folder, ExitStack() as stack:
        place = Path(folder)
        place.chmod(0o755)  # Dovecot's processes have users of their own
        peers = [stack.enter_context(ours(place / "data"))]
        if dovecot.installed():
            peers.append(stack.enter_context(theirs(place / "dovecot", place / "data" / "tls")))
        for group in GROUPS:
            chosen = [phase for phase in group if phase in phases]
            for peer in peers if chosen else ():
                report = load(peer, driver, chosen, messages)
                reports.setdefault(peer.name, []).extend(report["rows"])
                failures += [f"{peer.name}: {each}" for each in report["failures"]]
    return {
        "messages": messages,
        "load_average_after": os.getloadavg()[0],
        "figures": compared(reports),
        "failures": failures,
        "rows": reports,
    }


def run(quick: bool) -> dict[str, Any]:
    """Measure 10,000 messages (quick: 1,000); nothing without the driver."""
    if not DRIVER.exists():
        return {"skipped": f"no load driver at {DRIVER}"}
    every = [phase for group in GROUPS for phase in group]
    return measure(DRIVER, every, 1_000 if quick else 10_000)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--driver", type=Path, default=DRIVER)
    parser.add_argument("--messages", type=int, default=10_000)
    every = [phase for group in GROUPS for phase in group]
    parser.add_argument("--phases", default=",".join(every), help="comma-separated")
    options = parser.parse_args()
    if not options.driver.exists():
        parser.error(f"no load driver at {options.driver}")
    phases = options.phases.split(",")
    unknown = set(phases) - set(every)
    if unknown:
        parser.error(f"no such phase: {', '.join(sorted(unknown))}")
    print(json.dumps(measure(options.driver, phases, options.messages), indent=2))


if __name__ == "__main__":
    main()
