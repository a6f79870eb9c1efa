"""Bodies that are in S3 alone, and S3 that is not there."""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest_asyncio

from mailserver.mail.context import Mail
from mailserver.model import Account
from mailserver.runtime.embedded.seaweedfs import SeaweedFS
from mailserver.storage.mover import Mover


@pytest_asyncio.fixture
async def seaweedfs(tmp_path: Path) -> AsyncIterator[SeaweedFS]:
    """A server of the test's own, to be stopped."""
    server = SeaweedFS(tmp_path / "seaweedfs")
    await server.start()
    yield server
    await server.stop()


async def cool(mail: Mail) -> None:
    """Move every body that is here now to S3, and drop it from the database."""
    later = timedelta()

    def clock() -> datetime:
        return mail.now() + later

    async def barrier() -> None:
        """What is copied counts as durable."""

    mover = Mover(
        mail.database, mail.blobs, mail.ids, mail.config.mover, mail.metrics, clock, "test", barrier
    )
    for passed in (timedelta(minutes=2), timedelta(minutes=4), timedelta(days=8)):
        later = passed
        await mover.round()


async def test_s3_stops_and_comes_back(
    servers: Any, connect: Any, deliver: Any, mail: Mail, alice: Account, seaweedfs: SeaweedFS
) -> None:
    await deliver(b"Subject: cold\r\n\r\n" + b"c" * 5000 + b"\r\n")
    await cool(mail)
    await deliver(b"Subject: hot\r\n\r\n" + b"h" * 5000 + b"\r\n")
    port = await servers.start()
    client, other = await connect(port), await connect(port)
    for one in (client, other):
        await one.log_in()
        await one.ask(b"SELECT INBOX")
    await seaweedfs.stop()

    said = await client.ask(b"FETCH 1:2 BODY.PEEK[]")
    assert said[-1].startswith(b"t3 NO [UNAVAILABLE] ")
    # whatever needs no old body goes on, for everybody
    for command in (
        b"FETCH 2 BODY.PEEK[]",
        b"FETCH 1:2 (ENVELOPE BODYSTRUCTURE BODY.PEEK[HEADER])",
        b"COPY 1 Archive",
        b"STORE 1:2 +FLAGS (\\Seen)",
        b"SEARCH SUBJECT cold",
        b"APPEND INBOX {5+}\r\nhello",
    ):
        assert b" OK " in (await client.ask(command))[-1], command
        assert b" OK " in (await other.ask(b"NOOP"))[-1]

    await seaweedfs.start()
    said = await client.ask(b"FETCH 1 BODY.PEEK[]")
    assert b"c" * 5000 + b"\r\n" in said
    assert said[-1].endswith(b"OK FETCH completed\r\n")
