"""Postfix as the other server, and its smtp-sink with every switch that makes it fail."""

import asyncio
import contextlib
import os
import pwd
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from mailserver.model import QueueState
from tests.integration.outbound.conftest import LETTER, Sending

PATH = f"{os.environ.get('PATH', '')}:/usr/sbin"
SINK = shutil.which("smtp-sink", path=PATH)
POSTFIX = shutil.which("postfix", path=PATH)

pytestmark = pytest.mark.skipif(SINK is None, reason="Postfix is not installed")


@asynccontextmanager
async def sink(port: int, *switches: str) -> AsyncIterator[None]:
    """Run smtp-sink on 127.0.0.2."""
    assert SINK is not None
    user = ("-u", "nobody") if os.geteuid() == 0 else ()
    process = await asyncio.create_subprocess_exec(
        SINK, *user, *switches, f"127.0.0.2:{port}", "100",
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        await accepting("127.0.0.2", port)
        yield
    finally:
        process.kill()
        await process.wait()


async def accepting(host: str, port: int) -> None:
    """Wait until somebody listens."""
    async with asyncio.timeout(20):
        while True:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection(host, port)
                writer.close()
                return
            await asyncio.sleep(0.02)


SOFT = [("-r", word) for word in ("CONNECT", "EHLO", "MAIL", "RCPT", "DATA", ".")]
LOST = [("-q", word) for word in ("CONNECT", "EHLO", "MAIL", "RCPT", "DATA", ".")]
HARD = [("-f", word) for word in ("MAIL", "RCPT", "DATA", ".")]


@pytest.mark.parametrize("switches", [*SOFT, *LOST, ("-f", "CONNECT")], ids=" ".join)
async def test_what_fails_for_now_is_sent_later(
    sending: Sending, switches: tuple[str, ...]
) -> None:
    sending.domain("example.org", (10, "mx.example.org", "127.0.0.2"))
    async with sink(sending.port, *switches):
        worker = await sending.work("before")
        await sending.send("b@example.org", "c@example.org")
        row = await sending.settled("b@example.org", QueueState.WAITING)
        assert row["status"].startswith("4.")
        await worker.stop(5)
    async with sink(sending.port):
        await sending.due()
        await sending.work("after")
        await sending.settled("b@example.org", QueueState.DELIVERED)
        await sending.settled("c@example.org", QueueState.DELIVERED)


@pytest.mark.parametrize("switches", HARD, ids=" ".join)
async def test_what_is_refused_comes_back(sending: Sending, switches: tuple[str, ...]) -> None:
    sending.domain("example.org", (10, "mx.example.org", "127.0.0.2"))
    async with sink(sending.port, *switches):
        await sending.work()
        await sending.send("b@example.org")
        row = await sending.settled("b@example.org", QueueState.FAILED)
        assert row["last_reply"].startswith("5")


@pytest.fixture
def postfix(tmp_path: Path, port: int) -> Iterator[Path]:
    """A Postfix on 127.0.0.2 that delivers into Maildirs below the folder."""
    if POSTFIX is None or os.geteuid() != 0:
        pytest.skip("Postfix needs root")
    base = tmp_path / "postfix"
    for name in ("etc", "queue", "data", "mail"):
        (base / name).mkdir(parents=True)
    for parent in (tmp_path, *list(tmp_path.parents)[:2]):
        parent.chmod(0o755)
    owner = pwd.getpwnam("postfix")
    os.chown(base / "data", owner.pw_uid, owner.pw_gid)
    os.chown(base / "mail", owner.pw_uid, owner.pw_gid)
    (base / "etc" / "main.cf").write_text(
        f"""\
compatibility_level = 3.6
queue_directory = {base}/queue
data_directory = {base}/data
mail_owner = postfix
maillog_file = {base}/log
maillog_file_prefixes = {base}
myhostname = mx.example.org
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mydestination =
virtual_mailbox_domains = example.org
virtual_mailbox_base = {base}/mail
virtual_mailbox_maps = static:inbox/
virtual_uid_maps = static:{owner.pw_uid}
virtual_gid_maps = static:{owner.pw_gid}
virtual_minimum_uid = 1
smtputf8_enable = yes
"""
    )
    services = "\n".join(
        f"{name} unix {flags} {program}"
        for name, flags, program in (
            ("cleanup", "n - n - 0", "cleanup"),
            ("qmgr", "n - n 300 1", "qmgr"),
            ("rewrite", "- - n - -", "trivial-rewrite"),
            ("bounce", "- - n - 0", "bounce"),
            ("defer", "- - n - 0", "bounce"),
            ("trace", "- - n - 0", "bounce"),
            ("verify", "- - n - 1", "verify"),
            ("proxymap", "- - n - -", "proxymap"),
            ("error", "- - n - -", "error"),
            ("virtual", "- n n - -", "virtual"),
            ("anvil", "- - n - 1", "anvil"),
        )
    )
    (base / "etc" / "master.cf").write_text(
        f"127.0.0.2:{port} inet n - n - - smtpd\n{services}\n"
        "postlog unix-dgram n - n - 1 postlogd\n"
    )
    command = [POSTFIX, "-c", str(base / "etc")]
    done = subprocess.run([*command, "start"], capture_output=True, text=True, check=False)
    log = base / "log"
    assert done.returncode == 0, done.stderr + (log.read_text() if log.exists() else "")
    yield base
    subprocess.run([*command, "stop"], capture_output=True, check=True)


async def test_postfix_takes_what_we_send(sending: Sending, postfix: Path) -> None:
    await accepting("127.0.0.2", sending.port)
    sending.domain("example.org", (10, "mx.example.org", "127.0.0.2"))
    await sending.work()
    odd = b"Subject: dots\r\n\r\n.\r\n..two\r\n.end\r\n"
    eight = "Subject: grün\r\nFrom: a@example.test\r\n\r\nüber\r\n".encode()
    large = b"Subject: large\r\n\r\n" + b"0123456789abcdef\r\n" * 100_000
    letters = {LETTER, odd, eight, large}
    for number, raw in enumerate(sorted(letters)):
        await sending.send(f"user{number}@example.org", raw=raw, envid="QQ1", notify="FAILURE")
    await sending.until(lambda rows: all(row["state"] == QueueState.DELIVERED for row in rows))
    folder = postfix / "mail" / "inbox" / "new"
    async with asyncio.timeout(30):
        while not folder.is_dir() or len(list(folder.iterdir())) < len(letters):
            await asyncio.sleep(0.05)
    found = {
        file.read_bytes().replace(b"\n", b"\r\n").partition(b"\r\n\r\n")[2]
        for file in folder.iterdir()
    }
    assert found == {raw.partition(b"\r\n\r\n")[2] for raw in letters}
