"""What each small IMAP command costs: CPU of the server's Python and of PostgreSQL, and its time.

Starts `mailserver dev` in a temporary folder, and says every command many times on one connection
under TLS. CPU is counted in nanoseconds for every thread of every process, so the figures of two
versions can be compared while the machine does other things; times cannot.
"""

import argparse
import contextlib
import json
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from benchmarks.imap_flags import Client
from benchmarks.smtp_delivery import own_server
from tests.running import descendants, processes

TIMES = 1000  # that each command is said
QUICK_TIMES = 100
MESSAGES = 100  # in the mailbox
BODY = b"Here is a line of text that a person might have written to another one.\r\n" * 100
HEADER = (
    b"From: Ann <ann@example.org>\r\nTo: alice@example.test\r\nSubject: message %d\r\n"
    b"Date: Tue, 24 Nov 2026 10:30:00 +0000\r\nMessage-ID: <%d@example.org>\r\n\r\n"
)


class Command(NamedTuple):
    """A command, said in a mailbox that is open or in none."""

    name: str
    selected: bool
    text: Callable[[int], bytes]  # of the n-th time


def _uid(number: int) -> int:
    return number % MESSAGES + 1


def _append(number: int) -> bytes:
    message = HEADER % (number, number) + BODY
    return b"APPEND Archive {%d+}\r\n%b" % (len(message), message)


def _flag(number: int) -> bytes:
    sign = b"-" if number // MESSAGES % 2 else b"+"
    return b"UID STORE %d %bFLAGS (\\Flagged)" % (_uid(number), sign)


COMMANDS = (
    Command("CAPABILITY", False, lambda _: b"CAPABILITY"),
    Command("LIST", False, lambda _: b'LIST "" "*"'),
    Command("STATUS", False, lambda _: b"STATUS INBOX (MESSAGES UNSEEN UIDNEXT)"),
    Command("SELECT", False, lambda _: b"SELECT Drafts"),
    Command("NOOP", True, lambda _: b"NOOP"),
    Command("FETCH FLAGS of all", True, lambda _: b"UID FETCH 1:* (FLAGS)"),
    Command("SEARCH UNSEEN", True, lambda _: b"UID SEARCH UNSEEN"),
    Command("FETCH ENVELOPE", True, lambda n: b"UID FETCH %d (ENVELOPE)" % _uid(n)),
    Command("FETCH BODY.PEEK[]", True, lambda n: b"UID FETCH %d (BODY.PEEK[])" % _uid(n)),
    Command("STORE", True, _flag),
    Command("APPEND of 8 kB", False, _append),
)


class Cpu(NamedTuple):
    """Milliseconds of CPU that were used."""

    python: float
    postgres: float

    def since(self, before: "Cpu", times: int) -> dict[str, float]:
        """Return what was used since then, for each of so many times."""
        return {
            "python_ms": round((self.python - before.python) / times, 3),
            "postgres_ms": round((self.postgres - before.postgres) / times, 3),
        }


def used(server: int) -> Cpu:
    """Return what the processes of a server have used; SeaweedFS does nothing for these."""
    below = {server, *descendants(server)}
    spent = {"python": 0.0, "postgres": 0.0}
    for pid, _, program in processes():
        if pid in below and program != "weed":
            spent["postgres" if program == "postgres" else "python"] += sum(_nanoseconds(pid))
    return Cpu(spent["python"] / 1e6, spent["postgres"] / 1e6)


def _nanoseconds(pid: int) -> Iterator[int]:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for thread in (Path("/proc") / str(pid) / "task").iterdir():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                yield int((thread / "schedstat").read_text().split()[0])


def measure(client: Client, server: int, times: int) -> dict[str, dict[str, float]]:
    """Say every command, a few times before the clock starts."""
    for number in range(MESSAGES):
        message = HEADER % (number, number) + BODY
        client.ask(b"APPEND Drafts {%d+}\r\n%b" % (len(message), message))
    figures = {}
    for command in COMMANDS:
        client.ask(b"SELECT Drafts")
        if not command.selected:
            client.ask(b"UNSELECT")
        for number in range(10):
            client.ask(command.text(number))
        seconds = []
        before = used(server)
        for number in range(10, 10 + times):
            started = time.perf_counter()
            client.ask(command.text(number))
            seconds.append(time.perf_counter() - started)
        figures[command.name] = {
            "p50_ms": round(statistics.median(seconds) * 1000, 3),
            **used(server).since(before, times),
        }
    return figures


def run(quick: bool) -> dict[str, object]:
    """Measure a server of our own."""
    times = QUICK_TIMES if quick else TIMES
    with own_server() as document:
        client = Client(document)
        figures = measure(client, document["pid"], times)
        client.close()
    return {"times": times, "messages": MESSAGES, "commands": figures}


def main() -> None:
    """Print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    print(json.dumps(run(parser.parse_args().quick), indent=2))


if __name__ == "__main__":
    main()
