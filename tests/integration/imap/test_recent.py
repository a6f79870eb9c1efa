"""A message is \\Recent in one session, also one that arrives while a mailbox is opened."""

from typing import Any

import pytest

from mailserver.mail import listings
from mailserver.mail.context import Mail
from mailserver.mail.listings import Listing
from mailserver.model import Account

PLAIN = b"Subject: plain\r\n\r\nno more than this\r\n"


async def test_what_arrives_after_the_claim_is_recent_for_the_next(
    servers: Any, connect: Any, deliver: Any, alice: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    await deliver(PLAIN)
    first, second = [await connect(await servers.start()) for _ in range(2)]
    await first.log_in()
    await second.log_in()
    refresh = listings.refresh
    calls = 0

    async def delivering(
        mail: Mail, listing: Listing, known: int = 0, *, heard: int | None = None
    ) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:  # the look at the mailbox after the claim
            await deliver(PLAIN)
        await refresh(mail, listing, known, heard=heard)

    monkeypatch.setattr(listings, "refresh", delivering)
    told = await first.ask(b"SELECT INBOX")
    assert b"* 2 EXISTS\r\n" in told
    assert b"* 1 RECENT\r\n" in told
    told = await second.ask(b"SELECT INBOX")
    assert b"* 2 EXISTS\r\n" in told
    assert b"* 1 RECENT\r\n" in told
    assert (await second.ask(b"SEARCH RECENT"))[0] == b"* SEARCH 2\r\n"
