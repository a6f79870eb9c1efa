"""Moving in from another server: an account of Debian's Dovecot, copied here by two programs."""

import asyncio
import contextlib
import ssl
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from imapclient import IMAPClient

from benchmarks import dovecot
from mailserver.mail.context import Mail
from mailserver.model import Account
from mailserver.tls import make_development_ca
from tests.integration.clients import account as accounts
from tests.integration.clients.conftest import Served
from tests.integration.clients.programs import run

OLD_PASSWORD = "password-of-the-old-server"
MBSYNC = """
IMAPAccount old
Host localhost
Port {old}
User {login}
Pass {old_password}
SSLType IMAPS
CertificateFile {old_ca}
Timeout 60
AuthMechs PLAIN

IMAPAccount new
Host localhost
Port {new}
User {login}
Pass "{password}"
SSLType IMAPS
CertificateFile {new_ca}
Timeout 60

IMAPStore old
Account old

IMAPStore new
Account new

Channel all
Far :old:
Near :new:
Patterns * !Archive !Junk !Trash
Sync Pull
Create Near
CopyArrivalDate yes
SyncState {state}/
"""
# what mbsync knows of flags
SHOWN = {"\\Seen", "\\Answered", "\\Flagged", "\\Draft", "$Forwarded"}


@dataclass(frozen=True)
class Old:
    """Where the other server listens."""

    imaps: int
    ca: Path


@pytest.fixture
def old(tmp_path: Path) -> Iterator[Old]:
    # not below tmp_path: the mail of a Dovecot that root starts belongs to another user
    # and a process of it may still write when its master has ended
    with tempfile.TemporaryDirectory(prefix="dovecot", ignore_cleanup_errors=True) as home:
        Path(home).chmod(0o711)
        files = make_development_ca(tmp_path, ["localhost"], datetime.now(UTC))
        with dovecot.running(Path(home), OLD_PASSWORD, files.certificate, files.key) as running:
            yield Old(running.secure, files.ca)


@contextlib.contextmanager
def _log_in(port: int, ca: Path, password: str = accounts.PASSWORD) -> Iterator[IMAPClient]:
    context = ssl.create_default_context(cafile=str(ca))
    with IMAPClient("localhost", port, ssl_context=context, timeout=60) as client:
        client.normalise_times = False
        client.login(accounts.LOGIN, password)
        yield client


def _fill(client: IMAPClient) -> None:
    """Give the old account what `accounts.fill` gives the new one, and a few folders more."""
    for path in [*accounts.FOLDERS, "Sent", "Drafts"]:
        client.create_folder(path)
    for path in ("INBOX", "Lists/日本語", "Two Words"):
        client.subscribe_folder(path)
    flags = ((), ("\\Seen",), ("\\Seen", "\\Flagged", "Mine"), ("\\Answered", "$Forwarded"))
    number = 0
    for path, count in {"INBOX": 12, **accounts.FOLDERS, "Sent": 2, "Drafts": 1}.items():
        for _ in range(count):
            raw = accounts.message(f"old {number}", number=number, html=number % 3 == 2)
            date = accounts.BEGINNING + timedelta(days=number, seconds=number)
            client.append(path, raw, flags[number % len(flags)], date)
            number += 1


def _copy(old: IMAPClient, new: IMAPClient) -> None:
    """Copy folders, messages with flags and dates, and subscriptions."""
    for _, _, path in old.list_folders():
        if not new.folder_exists(path):
            new.create_folder(path)
        old.select_folder(path, readonly=True)
        uids = old.search("ALL")
        for _, found in sorted(old.fetch(uids, ["FLAGS", "INTERNALDATE", "BODY.PEEK[]"]).items()):
            flags = [flag for flag in found[b"FLAGS"] if flag != b"\\Recent"]
            new.append(path, found[b"BODY[]"], flags, found[b"INTERNALDATE"])
    for _, _, path in old.list_sub_folders():
        new.subscribe_folder(path)
    for _, _, path in new.list_sub_folders():
        if path not in {subscribed for _, _, subscribed in old.list_sub_folders()}:
            new.unsubscribe_folder(path)


def _contents(client: IMAPClient) -> dict[str, list[tuple[bytes, frozenset[str], datetime]]]:
    """Return what every folder of the old account has."""
    found: dict[str, list[tuple[bytes, frozenset[str], datetime]]] = {}
    for _, _, path in client.list_folders():
        client.select_folder(path, readonly=True)
        messages = client.fetch(client.search("ALL"), ["FLAGS", "INTERNALDATE", "BODY.PEEK[]"])
        found[path] = [
            (
                accounts.unmarked(each[b"BODY[]"]),
                frozenset(flag.decode() for flag in each[b"FLAGS"]) - {"\\Recent"},
                each[b"INTERNALDATE"].astimezone(UTC),
            )
            for _, each in sorted(messages.items())
        ]
    return found


async def test_everything_is_copied(server: Served, mail: Mail, alice: Account, old: Old) -> None:
    def work() -> dict[str, list[tuple[bytes, frozenset[str], datetime]]]:
        with (
            _log_in(old.imaps, old.ca, OLD_PASSWORD) as source,
            _log_in(server.imaps, server.ca) as target,
        ):
            _fill(source)
            _copy(source, target)
            return _contents(source)

    wanted = await asyncio.to_thread(work)
    stored = await accounts.everything(mail, alice)
    for path, messages in wanted.items():
        here = [(each.raw, each.flags, each.received_at) for each in stored[path]]
        assert here == messages, path
    assert await accounts.subscribed(mail, alice) == {"INBOX", "Lists/日本語", "Two Words"}
    assert server.answered("no") == {}


async def test_mbsync_pulls_from_one_server_into_the_other(
    server: Served, mail: Mail, alice: Account, old: Old, tmp_path: Path
) -> None:
    def fill() -> dict[str, list[tuple[bytes, frozenset[str], datetime]]]:
        with _log_in(old.imaps, old.ca, OLD_PASSWORD) as source:
            _fill(source)
            return _contents(source)

    wanted = await asyncio.to_thread(fill)
    state = tmp_path / "state"
    state.mkdir()
    rc = tmp_path / "mbsyncrc"
    rc.write_text(
        MBSYNC.format(
            old=old.imaps, old_ca=old.ca, new=server.imaps, new_ca=server.ca, state=state,
            login=accounts.LOGIN, password=accounts.PASSWORD,
            old_password=OLD_PASSWORD,
        )
    )  # fmt: skip
    command = ["mbsync", "-c", str(rc), "-a"]
    await run(command)
    for _ in range(2):
        stored = await accounts.everything(mail, alice)
        for path, messages in wanted.items():
            here = {(each.raw, each.flags, each.received_at) for each in stored[path]}
            assert here == {(raw, flags & SHOWN, date) for raw, flags, date in messages}, path
        await run(command)
    assert server.answered("no") == {}
