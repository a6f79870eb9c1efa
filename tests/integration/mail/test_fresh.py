"""What has just come is shown from memory, and by whoever did not store it from the store."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from mailserver.errors import OverQuota
from mailserver.mail import content, delivery, mailboxes, messages
from mailserver.mail.context import Mail
from mailserver.mail.fresh import ROOM, Fresh
from mailserver.model import Account
from mailserver.storage import accounts
from mailserver.storage.database import Database, Record

NOW = datetime(2026, 11, 24, 10, 30, tzinfo=UTC)
RAW = b"Subject: x\r\nMessage-ID: <1@example.org>\r\n\r\nHello\r\n"


class NoQueries(Database):
    """Answers nothing."""

    def __init__(self) -> None:
        super().__init__(lambda: "", 1)

    async def fetch(self, query: str, *args: Any) -> list[Record]:
        """Fail."""
        raise AssertionError(query)


async def store(mail: Mail, account: Account, *, together: bool) -> Sequence[delivery.Delivered]:
    inbox = (await mailboxes.by_path(mail, account.id, "INBOX")).id
    if together:
        new = [delivery.Incoming(RAW + each, delivery.NO_FLAGS, NOW) for each in (b"a", b"b")]
        return await delivery.accept_together(mail, account.id, inbox, new)
    target = delivery.Target(account.id, inbox)
    accepted = await delivery.accept(mail, RAW, [target], received_at=NOW, enforce_quota=True)
    return accepted.delivered


@pytest.mark.parametrize("together", [False, True])
async def test_both_show_the_same(mail: Mail, alice: Account, together: bool) -> None:
    stored = await store(mail, alice, together=together)
    ids = [each.email_id for each in stored]
    shown = []
    database = mail.database
    for instead in (NoQueries(), database):
        mail.database = instead
        described = await messages.descriptions(
            mail, alice.id, ids, env=100, header=True, current=True
        )
        texts = [
            await content.of_email(mail, alice.id, each, len(RAW), current=True) for each in ids
        ]
        shown.append((described, [found[each] for found, each in zip(texts, ids, strict=True)]))
        mail.fresh = Fresh(ROOM)  # as in another process
    assert shown[0] == shown[1]
    assert shown[0][1] == ([RAW + b"a", RAW + b"b"] if together else [RAW])


async def test_nothing_is_shown_of_what_was_not_stored(mail: Mail, alice: Account) -> None:
    await accounts.set_quota(mail.database, alice.id, 1)
    with pytest.raises(OverQuota):
        await store(mail, alice, together=False)
    assert not len(mail.fresh)


async def test_what_was_read_once_is_not_read_again(mail: Mail, alice: Account) -> None:
    (stored,) = await store(mail, alice, together=False)
    mail.fresh = Fresh(ROOM)  # as in another process
    email, database = stored.email_id, mail.database
    first = await content.of_email(mail, alice.id, email, len(RAW), current=True)
    mail.database = NoQueries()
    assert await content.of_email(mail, alice.id, email, len(RAW), current=True) == first
    assert first == {email: RAW}
    mail.database = database
    described = await messages.descriptions(
        mail, alice.id, [email], env=100, header=True, current=True
    )
    assert described.envs[0]
    assert RAW.startswith(described.headers[0])
