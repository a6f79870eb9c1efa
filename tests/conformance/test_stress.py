"""imaptest's stress mode: many clients at once, and what each is told must add up."""

import os
import re
from email.message import EmailMessage
from pathlib import Path

import pytest

from tests.conformance.conftest import login
from tests.conformance.imaptest import Imaptest
from tests.running import RunningServer

SECONDS = int(os.environ.get("IMAPTEST_SECONDS", "30"))  # of each run
CLIENTS = int(os.environ.get("IMAPTEST_CLIENTS", "50"))
SEED = os.environ.get("IMAPTEST_SEED", "1")
ONE = f"user={login(90)}"
MANY = (f"user={login(0).replace('0', '%d')}", "users=20")

RUNS = {
    "one mailbox": (ONE,),
    "many mailboxes": (*MANY, "msgs=100"),
    "large mailbox": (f"user={login(91)}", "msgs=1000"),
    "qresync": (f"user={login(92)}", "qresync"),
    "qresync, many": (*MANY, "qresync"),
    "revision 2": (f"user={login(97)}", "imap4rev2"),
    "revision 2, qresync": (f"user={login(98)}", "imap4rev2", "qresync"),
    "no pipelining": (ONE, "no_pipelining"),
    "owners of flags": (f"user={login(93)}", "own_flags"),
    "owners of messages": (f"user={login(94)}", "own_msgs"),
    "checkpoints": (f"user={login(95)}", "checkpoint=5"),
    "checkpoints, qresync": (f"user={login(96)}", "checkpoint=5", "qresync"),
    "searching": (ONE, "search=50", "sort=50", "thread=50", "uidfetch=50", "noop=30", "check=20"),
    "copying": (ONE, "copybox=Archive", "copy=50,10", "move=30,10", "disconnect=10"),
    "mailboxes": (ONE, "mcreate=50", "mdelete=50", "msubs=50"),
    "deflated": (*MANY, "compress=100"),
}

# imaptest of March 2026 counts on messages that it was not told of yet, and on a plan that is empty
_OWN_BUG = re.compile(
    r"^Panic: file (?:array\.c: .*idx < array->buffer|client-state\.c: .*plan_size == 0).*",
    re.MULTILINE,
)


@pytest.fixture(scope="session")
def mbox(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Messages of all sizes; each has a Message-ID of its own, by which imaptest knows it.

    Subjects are ASCII: imaptest searches for octets of them, which may be half a character.
    """
    path = tmp_path_factory.mktemp("mail") / "mbox"
    with path.open("wb") as file:
        for number in range(500):
            file.write(b"From nobody Thu Jan  1 00:00:00 1970\n" + _message(number) + b"\n")
    return path


def _message(number: int) -> bytes:
    message = EmailMessage()
    message["From"] = f"Sender {number % 7} <s{number % 7}@example.org>"
    message["To"] = "Grüße <r@example.org>, second@example.org"
    message["Subject"] = f"{'Re: ' * (number % 3)}number {number // 3} again"
    message["Message-ID"] = f"<{number}@conformance.example>"
    message["In-Reply-To"] = f"<{number - number % 3}@conformance.example>"
    message["Date"] = f"Mon, 1 Jan 2024 {number // 60:02}:{number % 60:02}:00 +0000"
    message.set_content(f"line {number}\n" * (number * number % 997 + 1))
    if number % 5 == 0:
        message.add_attachment(bytes(range(256)) * number, "application", "octet-stream")
    return message.as_bytes()


@pytest.mark.parametrize("run", RUNS)
def test_nothing_is_wrong(
    imaptest: Imaptest, server: RunningServer, mbox: Path, run: str, tmp_path: Path
) -> None:
    done = imaptest.run(
        server, tmp_path, f"mbox={mbox}", f"clients={CLIENTS}", f"secs={SECONDS}", f"seed={SEED}",
        *RUNS[run], limit=SECONDS + 120.0,
    )  # fmt: skip
    if "checkpoint=5" in RUNS[run] and (stopped := _OWN_BUG.search(done.stdout)):
        pytest.skip(f"imaptest stopped on an assertion of its own: {stopped[0]}")
    wrong = re.findall(r"^(?:Error|Fatal|Panic|Warning): .*", done.stdout, re.MULTILINE)
    assert wrong == []
    assert done.returncode == 0, done.stdout
    assert _logins(done.stdout) > 0, done.stdout


def _logins(printed: str) -> int:
    """Return how often clients logged in, as the totals at the end say."""
    totals = printed.partition("Totals:")[2].splitlines()
    return int(totals[-1].split()[0]) if totals else 0
