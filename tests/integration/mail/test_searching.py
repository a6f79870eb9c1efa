"""Results of an account that changes while they are read."""

from typing import Any, cast

import pytest

from mailserver.mail import delivery, mailboxes, search
from mailserver.mail.context import Mail
from mailserver.mail.criteria import InMailbox, Query, Window
from mailserver.mail.delivery import Target
from mailserver.model import Account
from mailserver.storage.database import Database
from tests.conftest import Bucketed, make_mail


class Changing:
    """A database whose account changes after every read."""

    def __init__(self, mail: Mail, account: Account) -> None:
        self._mail = mail
        self._account = account
        self.reads = 0

    async def fetchrow(self, *arguments: Any) -> Any:
        self.reads += 1
        assert self.reads < 50, "it is read again and again"
        row = await self._mail.database.fetchrow(*arguments)
        await mailboxes.create(self._mail, self._account.id, f"New {self.reads}")
        return row


@pytest.mark.parametrize("position", [0, 1])
async def test_threads_are_found_however_often_the_account_changes(
    mail: Mail, database: Database, bucket: Bucketed, alice: Account, position: int
) -> None:
    box = (await mailboxes.by_path(mail, alice.id, "INBOX")).id
    made = []
    for number, root in enumerate([1, *[2] * 12]):  # the second thread hides the first one
        raw = (
            f"Subject: {root}\r\nMessage-ID: <{number}@example.test>\r\n"
            f"References: <root{root}@example.test>\r\n\r\n"
        ).encode()
        taken = await delivery.accept(mail, raw, [Target(alice.id)], received_at=mail.now())
        made.append(taken.delivered[0].email_id)
    changing = make_mail(database, bucket.blobs, mail.config, node=2)
    changing.database = cast("Database", Changing(mail, alice))
    asked = Query(InMailbox(box), (), Window(position, limit=2), collapse_threads=True)
    found = await search.query(changing, alice.id, asked)
    changing.passwords.close()
    assert found.ids == [made[-1], made[0]][position:]
