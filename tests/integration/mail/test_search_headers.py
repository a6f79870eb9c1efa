"""Fields of headers are found as in the messages, whatever of them is in memory."""

import asyncio
import random
from collections.abc import Sequence

from mailserver.mail import delivery, search_headers
from mailserver.mail.context import Mail
from mailserver.mail.delivery import Target
from mailserver.mail.search_headers import SearchHeader, SearchHeaders, text_of
from mailserver.mime import parse
from mailserver.model import Account, MailboxId

INBOX = MailboxId(1)
FIELDS = ("from", "to", "cc", "subject", "message-id", "list-id", "x-none", "")
VALUES = (
    b"Ann <ann@example.test>", b"=?utf-8?q?J=C3=BCrgen?= <j@example.test>", b"\xff\xfe", b"",
    b"=?iso-2022-jp?b?GyRCRWw1fhsoQg==?=", b"folded\r\n =?utf-8?q?f=C3=BCr?=\r\n\tyou", b"a\0b",
    b"J\xc3\xbcrgen", b"=?utf-8?q?a?= =?utf-8?q?b?=", b'"A \\"B\\"" (c) <a . b@example.test>',
)  # fmt: skip
DATES = (
    b"Date: Thu, 1 Jan 1970 00:00:00 +0000\r\n",
    b"Date: Thu, 1 Jan 1970 01:01:00 +0100\r\n",
    b"Date: soon\r\n",
)
LINES = (b"stray line\r\n", b"From me\r\n", b": no name\r\n", b" folded first\r\n")


def _message(dice: random.Random) -> bytes:
    lines = [
        b"%b:%b%b\r\n" % (dice.choice((name, name.upper())), dice.choice((b"", b" ")), value)
        for name in (b"From", b"To", b"Cc", b"Subject", b"Message-ID", b"List-Id")
        for value in dice.sample(VALUES, dice.choice((0, 1, 1, 1, 2)))
    ]
    if dice.random() < 0.1:
        lines.insert(dice.randrange(len(lines) + 1), dice.choice(LINES))
    return b"".join(lines) + b"\r\nFrom: body\r\n"


async def _texts(
    mail: Mail, account: Account, field: str, ids: Sequence[int]
) -> dict[int, str | None]:
    found: dict[int, str | None] = {}
    async for places, texts in search_headers.texts(field, mail, account.id, INBOX, ids):
        for place, text in zip(places, texts, strict=True):
            assert place not in found
            found[place] = text
    return found


async def test_fields_are_those_of_the_messages(mail: Mail, alice: Account) -> None:
    dice = random.Random(5)
    raw = [_message(dice) for _ in range(450)]
    accepted = await asyncio.gather(
        *(delivery.accept(mail, each, [Target(alice.id)], received_at=mail.now()) for each in raw)
    )
    ids: list[int] = [each.delivered[0].email_id for each in accepted]
    headers = [parse(each).header for each in raw]
    asked = [*ids, 0, ids[7]]  # one that is gone, and one that is there twice
    for room in (2**20, 10_000):
        mail.search_headers = SearchHeaders(room)
        assert await _texts(mail, alice, "from", ids[100:300])
        for field in (*FIELDS, *FIELDS):
            expected = dict(enumerate(text_of(each.all(field), field) for each in headers))
            expected[len(ids) + 1] = expected[7]
            assert await _texts(mail, alice, field, asked) == expected
        assert mail.search_headers.size <= room


async def test_headers_are_decoded_once_and_within_the_room(mail: Mail, alice: Account) -> None:
    accepted = [
        await delivery.accept(
            mail,
            b"Subject: Re: n%d\r\n%b\r\n" % (number, date),
            [Target(alice.id)],
            received_at=mail.now(),
        )
        for number, date in enumerate(DATES)
    ]
    ids = [each.delivered[0].email_id for each in accepted]

    async def read() -> list[SearchHeader]:
        found = search_headers.read(mail, alice.id, INBOX, ids)
        return [row async for _, rows in found for row in rows]

    first = await read()
    assert [(row.base_subject, row.is_reply) for row in first] == [
        (f"N{number}", True) for number in range(3)
    ]
    dates = search_headers.sent(mail, alice.id, INBOX, ids)
    assert [stamp async for _, stamps in dates for stamp in stamps] == [0.0, 60.0, None]
    assert [row.sent for row in first] == [0.0, 60.0, None]
    assert all(one is other for one, other in zip(first, await read(), strict=True))
    mail.search_headers = SearchHeaders(room=2000)
    assert [row.base_subject for row in await read()] == ["N0", "N1", "N2"]
