"""What became of a message can be asked for, by whatever is known of it."""

import asyncio
import smtplib
from datetime import timedelta

import pytest

from mailserver.antispam import trace
from mailserver.antispam.checks import Checks
from mailserver.antispam.trace import MAX_WAITING, Journal, Story, Told
from mailserver.cli.trace import story_in_words
from mailserver.errors import Unavailable
from mailserver.mail.context import Mail
from mailserver.model import Account
from mailserver.storage.database import Database
from tests.integration.antispam.conftest import Serve
from tests.integration.antispam.test_verdicts import Says, pipeline, send

MESSAGE = (
    b"From: carol@example.org\r\nSubject: hello\r\n"
    b"message-id:\r\n <one.two@example.org>\r\n\r\nbody\r\n"
)


async def ask(mail: Mail, journal: Journal, text: str) -> list[Told]:
    await journal.flush()
    return await trace.find(mail.database, trace.keys_of(text), 20)


async def test_an_accepted_message_is_found_by_all_that_is_known_of_it(
    mail: Mail, alice: Account, journal: Journal, serve: Serve
) -> None:
    port = await serve(pipeline(mail, Checks(judges=[Says(7)])))
    await send(port, "alice@example.test", message=MESSAGE)
    [told] = await ask(mail, journal, "Alice@example.test")
    story = told.story
    for word in ("carol@example.org", "<one.two@example.org>", story["session"], story["stored"]):
        assert await ask(mail, journal, str(word)) == [told]
    assert story["places"] == [
        {"account": "alice@example.test", "mailbox": "junk", "reason": "score 7.0", "score": 7.0}
    ]
    words = "\n".join(story_in_words(told))
    assert "Check content says done" in words
    assert "+7.00 SAYS" in words
    assert "alice@example.test has it in Junk, because of: score 7.0." in words


async def test_a_refused_message_and_a_refused_recipient(
    mail: Mail, alice: Account, journal: Journal, serve: Serve
) -> None:
    port = await serve(pipeline(mail, Checks(judges=[Says(35)])))
    with pytest.raises(smtplib.SMTPDataError):
        await send(port, "alice@example.test", "nobody@example.test", message=MESSAGE)
    [recipient, message] = await ask(mail, journal, "carol@example.org")
    assert (recipient.story["stage"], recipient.story["action"]) == ("recipient", "refused")
    assert recipient.story["reply"] == "550 5.1.1 No such user here"
    assert message.story["reply"] == "550 5.7.1 looks like spam, score 35.0"
    assert message.story["reason"] == "looks like spam, score 35.0"
    assert "Refused after the message was received" in "\n".join(story_in_words(message))


async def test_without_a_filter_there_are_traces_too(
    mail: Mail, alice: Account, journal: Journal, serve: Serve
) -> None:
    await send(await serve(None), "alice@example.test")
    [told] = await ask(mail, journal, "alice@example.test")
    assert told.story["action"] == "accepted"


async def test_while_the_database_is_away_traces_wait_and_are_bounded(
    mail: Mail, journal: Journal
) -> None:
    nowhere = Database(lambda: "postgresql://127.0.0.1:1/x", 4)
    away = Journal(nowhere, mail.ids, mail.metrics, mail.now)
    for number in range(MAX_WAITING + 5):
        away.write(Story(f"s{number}", "message", "accepted", "250 2.0.0 OK", "192.0.2.1"))
    with pytest.raises(Unavailable):
        await away.flush()
    assert b"test_traces_lost_total 5.0" in mail.metrics.render()
    away._database = mail.database
    await away.flush()
    assert await trace.find(mail.database, ["s4"], 1) == []
    for number in (5, MAX_WAITING + 4):
        assert len(await trace.find(mail.database, [f"s{number}"], 1)) == 1


async def test_what_strangers_say_is_written_down_harmlessly(mail: Mail, journal: Journal) -> None:
    journal.write(
        Story(
            "s1",
            "sender",
            "refused",
            "550 no",
            "192.0.2.1",
            helo="a\0b\udc80" * 1000,
            sender="x\n\0@example.org",
        )
    )
    await journal.flush()
    [told] = await trace.find(mail.database, ["s1"], 1)
    assert len(str(told.story["helo"])) == 1000
    assert await trace.find(mail.database, ["x ?@example.org"], 1) == [told]


async def test_traces_expire(mail: Mail, journal: Journal) -> None:
    journal.write(Story("s1", "message", "accepted", "250 OK", "192.0.2.1"))
    await journal.flush()
    now = mail.now()
    assert await trace.expire(mail.database, mail.ids, now - timedelta(days=1)) == 0
    assert await trace.expire(mail.database, mail.ids, now + timedelta(days=1)) == 1


async def test_traces_are_written_by_themselves(mail: Mail, journal: Journal) -> None:
    task = asyncio.create_task(journal.run())
    journal.write(Story("s1", "message", "accepted", "250 OK", "192.0.2.1"))
    async with asyncio.timeout(30):
        while not await trace.find(mail.database, ["s1"], 1):
            await asyncio.sleep(0.05)
    task.cancel()


async def test_the_index_finds_traces(mail: Mail) -> None:
    await mail.database.execute(
        "INSERT INTO trace SELECT n, now(), ARRAY['s' || n], '{}' FROM generate_series(1, 5000) n"
    )
    await mail.database.execute("ANALYZE trace")
    plan = await mail.database.fetch("EXPLAIN SELECT id FROM trace WHERE keys @> ARRAY['s7'::text]")
    assert any("trace_keys" in row[0] for row in plan)
