import contextlib
import fcntl
import imaplib
import os
import pty
import re
import signal
import socket
import ssl
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.program.conftest import (
    CLEAN,
    PROGRAM,
    Start,
    command,
    hold_descendants,
    start_dev,
    wait_gone,
)

KEYS = {"pid", "listeners", "accounts", "ca", "jmap_url", "database_url", "s3"}
LISTENERS = {"smtp", "submission", "submissions", "imap", "imaps", "http", "https"}


def test_life(start: Start, tmp_path: Path) -> None:
    first, _ = start_dev(start, tmp_path / "data")
    document = first.document
    assert document.keys() >= KEYS
    assert document["pid"] == first.process.pid
    assert document["listeners"].keys() == LISTENERS
    assert document["s3"].keys() == {"endpoint", "bucket", "access_key", "secret_key"}
    for host, port in document["listeners"].values():
        socket.create_connection((host, port), 10).close()
    for name in ("dev.json", "accounts.json", "mbsyncrc"):
        assert stat.S_IMODE((tmp_path / "data" / name).stat().st_mode) == 0o600
    services = hold_descendants(first.process.pid)
    assert len(services) >= 2
    assert first.stop(signal.SIGINT) == 0
    assert not (tmp_path / "data" / "dev.json").exists()
    wait_gone(services)

    second, _ = start_dev(start, tmp_path / "data")
    assert second.document["accounts"] == document["accounts"]
    assert second.document["ca"] == document["ca"]
    services = hold_descendants(second.process.pid)
    assert second.stop(signal.SIGTERM) == 0
    wait_gone(services)


@pytest.mark.parametrize(
    ("kind", "said"), [("submissions", b""), ("submission", b"EHLO x\r\nSTARTTLS\r\n")]
)
def test_who_leaves_before_the_handshake_is_not_waited_for(
    start: Start, tmp_path: Path, kind: str, said: bytes
) -> None:
    program, _ = start_dev(start, tmp_path)
    host, port = program.document["listeners"][kind]
    for _ in range(5):
        with socket.create_connection((host, port), 30) as client:  # half of a handshake's time
            client.sendall(said)
            client.shutdown(socket.SHUT_WR)
            while client.recv(1024):
                pass
    assert program.stop() == 0


def test_a_second_server_on_the_same_directory_is_refused(start: Start, tmp_path: Path) -> None:
    first, _ = start_dev(start, tmp_path)
    outcome = command("dev", "--data-dir", str(tmp_path), "--ports", "free")
    assert outcome.code == 1
    assert f"in use by process {first.process.pid}" in outcome.errors
    assert "Traceback" not in outcome.errors
    assert first.document["pid"] == first.process.pid
    assert first.stop() == 0


def test_sigkill_leaves_no_orphans_and_the_next_start_recovers(
    start: Start, tmp_path: Path
) -> None:
    first, _ = start_dev(start, tmp_path)
    before = first.document
    services = hold_descendants(first.process.pid)
    first.process.kill()
    first.process.wait()
    wait_gone(services)
    # The document is still there, but nobody holds the lock: it must not be believed.
    assert first.document == before
    listed = command("account", "list", "--data-dir", str(tmp_path), "--json")
    assert [account["login"] for account in listed.json] == [
        account["login"] for account in before["accounts"]
    ]
    second, _ = start_dev(start, tmp_path)
    assert second.document["pid"] == second.process.pid
    assert second.document["accounts"] == before["accounts"]
    assert second.stop() == 0


def test_a_stop_during_the_start_stops_everything(start: Start, tmp_path: Path) -> None:
    program = start(tmp_path, "dev", "--data-dir", str(tmp_path), "--ports", "free")
    assert program.process.stdout is not None
    # The lock is taken before anything is started.
    while not (tmp_path / "dev.lock").exists():
        assert program.process.poll() is None
    assert program.stop(signal.SIGTERM) == 0
    assert not (tmp_path / "dev.json").exists()
    with (tmp_path / "dev.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_port_that_is_taken_is_named(start: Start, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        outcome = command(
            *("dev", "--data-dir", str(tmp_path), "--ports", "free"),
            MAILSERVER_LISTENERS__SMTP__PORT=str(port),
        )
    assert outcome.code == 3
    assert f"listeners.smtp: cannot listen on 127.0.0.1 port {port}" in outcome.errors


@pytest.fixture(scope="module")
def pasted(start: Start, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, str]]:
    """What a development server printed, and its lines to try by purpose."""
    _, text = start_dev(start, tmp_path_factory.mktemp("pasted"))
    return text, {
        purpose: line
        for purpose, line in re.findall(r"^ {2}# (.+)\n {2}(\S.*)$", text, re.MULTILINE)
    }


def run_pasted(line: str) -> str:
    done = subprocess.run(
        ["bash", "-c", line], capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_line_that_is_shown_works_when_pasted(
    pasted: tuple[str, dict[str, str]],
) -> None:
    text, lines = pasted
    assert "\x1b" not in text
    outputs = {purpose: run_pasted(line) for purpose, line in lines.items()}
    assert [line.split()[0] for line in lines.values()] == [
        *("swaks", "swaks", "mkdir", "curl", "curl", "curl")
    ]
    assert "<** 250" not in outputs["mail arrives from elsewhere"]
    assert "250 2." in outputs["mail arrives from elsewhere"]
    assert "250 2." in outputs["alice@example.test writes to bob@example.test"]
    assert "INBOX" in outputs["list the mailboxes by IMAP"]
    assert '"apiUrl"' in outputs["the JMAP session"]
    assert '"Core/echo"' in outputs["a JMAP call"]
    maildir = Path(lines["fetch it all into a Maildir"].split()[2])
    (message,) = [*(maildir / "INBOX/new").iterdir(), *(maildir / "INBOX/cur").iterdir()]
    assert "This is a test mailing" in message.read_text()


def test_the_accounts_that_are_shown_can_log_in(pasted: tuple[str, dict[str, str]]) -> None:
    text, _ = pasted
    accounts = re.findall(r"account +(\S+) +password (\S+)", text)
    ca = re.search(r"CA +(\S+)", text)
    imaps = re.search(r"imaps +(\S+):(\d+)", text)
    assert ca
    assert imaps
    assert [login for login, _ in accounts] == ["alice@example.test", "bob@example.test"]
    context = ssl.create_default_context(cafile=ca[1])
    for login, password in accounts:
        with imaplib.IMAP4_SSL(imaps[1], int(imaps[2]), ssl_context=context) as client:
            assert client.login(login, password)[0] == "OK"


# a login: also the signal is as usual, which whoever runs the tests may have ignored by nohup
LOGIN = """\
import fcntl, os, signal, sys, termios
signal.signal(signal.SIGHUP, signal.SIG_DFL)
os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""


def test_it_stops_when_its_terminal_is_closed(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    directory = tmp_path / "data"
    arguments = ("dev", "--data-dir", str(directory), "--ports", "free")
    process = subprocess.Popen(
        [sys.executable, "-c", LOGIN, *PROGRAM, *arguments],
        stdin=theirs,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=CLEAN,
    )
    os.close(theirs)
    # a file announces nothing
    while not (directory / "dev.json").exists():
        assert process.poll() is None
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.05)
    descriptors = hold_descendants(process.pid)
    os.close(ours)
    assert process.wait(60) == 0
    wait_gone(descriptors)
