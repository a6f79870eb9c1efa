"""From this server to another one of its kind, with everything both can do."""

from collections.abc import AsyncIterator

import asyncpg
import pytest_asyncio

from mailserver.auth.credentials import Authenticator
from mailserver.config import Listener
from mailserver.mail import accounts
from mailserver.mail.context import Mail
from mailserver.model import Account, QueueState
from mailserver.runtime.embedded.postgres import Postgres
from mailserver.smtp.server import SmtpServer
from mailserver.storage.database import Database
from tests.conftest import PASSWORD, Bucketed, make_mail
from tests.integration.outbound.conftest import LETTER, Sending
from tests.integration.smtp.conftest import inbox


@pytest_asyncio.fixture
async def other(
    postgres: Postgres, bucket: Bucketed, sending: Sending
) -> AsyncIterator[tuple[Mail, Account]]:
    """Another installation: the domain example.org with carol, at 127.0.0.2."""
    admin = await asyncpg.connect(postgres.dsn())
    await admin.execute("CREATE DATABASE other TEMPLATE template_mail STRATEGY FILE_COPY")
    database = Database(lambda: postgres.dsn("other"), size=4)
    mail = make_mail(database, bucket.blobs, sending.mail.config, node=2)
    await accounts.add_domain(mail, "example.org")
    carol = await accounts.create(mail, "carol@example.org", password=PASSWORD)
    server = SmtpServer(
        mail=mail,
        authenticator=Authenticator(database, passwords=mail.passwords),
        tls=sending.tls.server,
        kind="mx",
    )
    await server.start(Listener(host="127.0.0.2", port=sending.port))
    yield mail, carol
    await server.stop(5)
    mail.passwords.close()
    await database.close()
    await admin.execute("DROP DATABASE other WITH (FORCE)")
    await admin.close()


async def test_mail_arrives_and_what_cannot_comes_back(
    sending: Sending, other: tuple[Mail, Account], mail: Mail, alice: Account
) -> None:
    there, carol = other
    sending.domain("example.org", (10, "mx.example.org", "127.0.0.2"))
    await sending.work()
    await sending.send("carol@example.org", "nobody@example.org")
    await sending.send("carol@example.org", raw="Subject: grün\r\n\r\nüber\r\n".encode())
    await sending.until(lambda rows: sum(row["state"] == QueueState.DELIVERED for row in rows) == 3)
    first, second = sorted(await inbox(there, carol), key=len, reverse=True)
    assert first.endswith(LETTER)
    assert first.startswith(b"Return-Path: <alice@example.test>\r\nReceived: from mail.example")
    assert b"with ESMTPS (TLSv1.3" in first
    assert second.endswith("Subject: grün\r\n\r\nüber\r\n".encode())
    (bounce,) = await inbox(mail, alice)
    assert b"Diagnostic-Code: smtp; 550 5.1.1 No such user here\r\n" in bounce
