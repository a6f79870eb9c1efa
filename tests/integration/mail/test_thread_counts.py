"""Counts in memory: they follow what changes, and make room."""

from datetime import UTC, datetime

from mailserver.mail import delivery, messages
from mailserver.mail.context import Mail
from mailserver.mail.delivery import Target
from mailserver.mail.thread_counts import ThreadCounts
from mailserver.model import Account, FlagChange, Flags

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


async def test_they_follow_and_make_room(mail: Mail, alice: Account, bob: Account) -> None:
    counts = ThreadCounts(room=3)
    for number in range(4):
        for account in (alice, bob):
            raw = f"Subject: {number}\r\n\r\nx\r\n".encode()
            accepted = await delivery.accept(mail, raw, [Target(account.id)], received_at=NOW)
            (one,) = accepted.delivered
            modseq, found = await counts.of(mail, account.id, one.modseq)
            assert (modseq, found[one.mailbox_id]) == (one.modseq, (number + 1,) * 4)
    stored = await messages.store(
        mail, bob.id, one.mailbox_id, [one.uid], FlagChange.ADD, Flags.of(["\\Seen"])
    )
    _, found = await counts.of(mail, bob.id, stored.modseq)
    assert found[one.mailbox_id] == (4, 3, 4, 3)
    _, found = await counts.of(mail, bob.id, stored.modseq, within=frozenset())
    assert found == {}
