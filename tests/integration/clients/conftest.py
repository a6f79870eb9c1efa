"""A whole server for client programs: TLS only, no password in plain text, a filled account."""

import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from mailserver.auth.credentials import Authenticator
from mailserver.auth.tokens import Tokens
from mailserver.config import Listener
from mailserver.imap.server import ImapServer
from mailserver.mail.context import Mail
from mailserver.model import Account
from mailserver.smtp.server import SmtpServer
from tests.integration.clients import account as accounts
from tests.integration.conftest import Tls


@dataclass(frozen=True)
class Served:
    """Where the server listens, on localhost."""

    mail: Mail
    imap: int  # STARTTLS before the password
    imaps: int
    submissions: int
    submission: int  # STARTTLS before the password
    ca: Path

    def answered(self, outcome: str) -> dict[str, int]:
        """Return the IMAP commands that were answered "ok", "no" or "bad", and how often."""
        return {
            sample.labels["command"]: int(sample.value)
            for metric in self.mail.metrics.commands.collect()
            for sample in metric.samples
            if sample.name.endswith("_total")
            and (sample.labels["protocol"], sample.labels["outcome"]) == ("imap", outcome)
        }


@pytest_asyncio.fixture
async def server(mail: Mail, tls: Tls, tokens: Tokens) -> AsyncIterator[Served]:
    """A server whose clients were all understood: none of their commands was BAD."""
    authenticator = Authenticator(mail.database, passwords=mail.passwords, tokens=tokens)
    async with AsyncExitStack() as running:
        ports = []
        for implicit_tls in (False, True):
            imap = ImapServer(
                mail=mail, authenticator=authenticator, tls=tls.server, implicit_tls=implicit_tls
            )
            ports.append((await imap.start(Listener(host="127.0.0.1", port=0)))[1])
            running.push_async_callback(imap.stop, 5)
        for kind in ("submissions", "submission"):
            smtp = SmtpServer(mail=mail, authenticator=authenticator, tls=tls.server, kind=kind)
            ports.append((await smtp.start(Listener(host="127.0.0.1", port=0)))[1])
            running.push_async_callback(smtp.stop, 5)
        imap_port, imaps_port, submissions, submission = ports
        served = Served(mail, imap_port, imaps_port, submissions, submission, tls.ca)
        yield served
    assert served.answered("bad") == {}


@pytest_asyncio.fixture
async def filled(mail: Mail, alice: Account) -> Account:
    """Alice, with folders and mail."""
    await accounts.fill(mail, alice)
    return alice


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """The server has nothing to complain about, whatever a client does."""
    yield
    said = [
        record.getMessage()
        for when in ("setup", "call")
        for record in caplog.get_records(when)
        if record.levelno >= logging.WARNING and record.name.startswith("mailserver")
    ]
    assert said == []
