"""A whole server for the suites of others, with accounts that share one password."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.imaptest import Imaptest
from tests.running import RunningServer

ACCOUNTS = 100
PASSWORD = "conformance"


@pytest.fixture(scope="session")
def imaptest() -> Imaptest:
    """The program; asked for before the server, which is not started for tests that are skipped."""
    return Imaptest.found(PASSWORD)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """`mailserver dev` with real services; it must end with nothing to complain about."""
    folder = tmp_path_factory.mktemp("conformance")
    running = RunningServer(
        folder / "data",
        {"MAILSERVER_IMAP__ALLOW_PLAINTEXT_LOGIN": "true", "MAILSERVER_LOG__FORMAT": "text"},
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
