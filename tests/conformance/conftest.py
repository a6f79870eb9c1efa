"""A whole server for the suites of others, with accounts that share one password."""

import imaplib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mailserver.tls import DevelopmentFiles, make_development_ca
from tests.conformance.imaptest import Imaptest
from tests.conformance.push_relay import PushRelay
from tests.running import RunningServer

ACCOUNTS = 100
PASSWORD = "conformance"


@pytest.fixture(scope="session")
def imaptest() -> Imaptest:
    """The program; asked for before the server, which is not started for tests that are skipped."""
    return Imaptest.found(PASSWORD)


@pytest.fixture(scope="session")
def relay_files(tmp_path_factory: pytest.TempPathFactory) -> DevelopmentFiles:
    """The certificate of the relay of push messages, and the CA that the server trusts for it."""
    return make_development_ca(tmp_path_factory.mktemp("relay"), ["127.0.0.1"], datetime.now(UTC))


@pytest.fixture(scope="session")
def relay(relay_files: DevelopmentFiles) -> Iterator[PushRelay]:
    """Where push messages are sent."""
    with PushRelay(relay_files.certificate, relay_files.key) as running:
        yield running


@pytest.fixture(scope="session")
def server(
    tmp_path_factory: pytest.TempPathFactory, relay_files: DevelopmentFiles
) -> Iterator[RunningServer]:
    """`mailserver dev` with real services; it must end with nothing to complain about."""
    folder = tmp_path_factory.mktemp("conformance")
    running = RunningServer(
        folder / "data",
        {
            "MAILSERVER_IMAP__ALLOW_PLAINTEXT_LOGIN": "true",
            "MAILSERVER_LOG__FORMAT": "text",
            "MAILSERVER_PUSH__ALLOW_PRIVATE": "true",
            "MAILSERVER_PUSH__CA": str(relay_files.ca),
        },
    )
    running.start()
    try:
        _make_accounts(running, folder / "accounts.csv")
        yield running
        assert running.fsck() == []
    finally:
        running.close()
    wrong = [line for line in running.log.read_text().splitlines() if " error " in line]
    assert wrong == []


def _make_accounts(running: RunningServer, path: Path) -> None:
    rows = [f"{login(number)},,{PASSWORD},," for number in range(1, ACCOUNTS + 1)]
    path.write_text("\n".join(["login,name,password,quota,aliases", *rows, ""]))
    running.command("account", "import", str(path))


def login(number: int) -> str:
    """Return the login of one of the accounts."""
    return f"u{number}@example.test"


def share(server: RunningServer, owner: str, user: str) -> None:
    """Give a user all rights on every mailbox of an owner."""
    with imaplib.IMAP4(*server.address("imap")) as client:
        client.login(owner, PASSWORD)
        for line in client.list()[1]:
            assert isinstance(line, bytes)
            name = line.rpartition(b' "/" ')[2].decode()
            assert client.setacl(name, user, "lrswipkxtea")[0] == "OK"
