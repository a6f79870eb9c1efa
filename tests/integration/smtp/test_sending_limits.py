"""How much a user may send, and the brake for accounts whose password was stolen."""

import asyncio
import smtplib
from datetime import timedelta

import pytest

from mailserver.antispam.ratelimit import Rates
from mailserver.antispam.sending import Brake
from mailserver.config import Sending
from mailserver.mail import queueing
from mailserver.mail.context import Mail
from mailserver.model import Account
from mailserver.storage import sending as stored
from mailserver.storage.queue_admin import Filter
from tests.integration.smtp.conftest import Servers
from tests.integration.smtp.test_submission import PASSWORD, letter


def brake(mail: Mail, **limits: int | str) -> Brake:
    rates = Rates(mail.database, mail.now)
    made = Brake(Sending.model_validate(limits), mail.database, rates, mail.metrics, mail.now)
    mail.brake = made
    return made


async def send(servers: Servers, *recipients: str) -> None:
    port = await servers.start("submissions")

    def work() -> None:
        with smtplib.SMTP_SSL("localhost", port, context=servers.tls.client, timeout=30) as client:
            client.login("alice@example.test", PASSWORD)
            client.send_message(letter(), to_addrs=list(recipients))

    await asyncio.to_thread(work)


async def states(mail: Mail) -> list[int]:
    rows = await mail.database.fetch("SELECT state FROM queue_recipient ORDER BY recipient")
    return [row["state"] for row in rows]


async def test_a_burst_to_strangers_holds_the_account_and_what_waits_of_it(
    mail: Mail,
    alice: Account,
    bob: Account,
    servers: Servers,
    caplog: pytest.LogCaptureFixture,
) -> None:
    made = brake(mail, new_recipients_per_hour=5)
    await send(servers, *(f"user{n}@example.org" for n in range(5)))
    with pytest.raises(smtplib.SMTPDataError) as refusal:
        await send(servers, "one.more@example.org")
    assert refusal.value.args[0] == 550
    assert b"Sending is held for this account" in refusal.value.args[1]
    assert await states(mail) == [3] * 5
    assert "account is held" in caplog.messages
    assert await made.admit(bob.id, "bob@example.test", ["x@example.org"]) == ""
    [held] = await stored.held(mail.database)
    assert held.login == "alice@example.test"
    async with mail.database.transaction() as tx:
        assert await stored.release(tx, alice.id, mail.now(), queued=True)
        assert not await stored.release(tx, alice.id, mail.now(), queued=True)
    assert await states(mail) == [0] * 5
    await send(servers, "one.more@example.org")  # counts begin anew
    with pytest.raises(smtplib.SMTPDataError):
        await send(servers, *(f"another{n}@example.org" for n in range(6)))
    assert len(await stored.held(mail.database)) == 1


async def test_what_was_under_way_when_an_account_was_held_is_held_when_it_waits_again(
    mail: Mail, alice: Account, bob: Account, servers: Servers
) -> None:
    made = brake(mail, refused_per_hour=0)
    await send(servers, "one@example.org", "two@example.org")
    await mail.database.execute(
        "UPDATE queue_recipient SET state = 5 WHERE recipient = 'one@example.org'"
    )
    await made.hold(alice.id, "alice@example.test", "a test")
    assert await states(mail) == [5, 3]
    await mail.database.execute("UPDATE queue_recipient SET state = 0 WHERE state = 5")  # put off
    await made.look("this process")
    assert await states(mail) == [3, 3]
    async with mail.database.transaction() as tx:
        assert await stored.release(tx, alice.id, mail.now(), queued=True)
    await made.look("this process")
    assert await states(mail) == [0, 0]


async def test_what_is_to_leave_later_does_not_leave_when_the_account_is_let_go(
    mail: Mail, alice: Account, servers: Servers
) -> None:
    made = brake(mail)
    await send(servers, "later@example.org", "tried@example.org")
    later = mail.now() + timedelta(days=1)
    await mail.database.execute("UPDATE queue_recipient SET next_attempt = $1", later)
    await mail.database.execute(
        "UPDATE queue_recipient SET attempts = 1 WHERE recipient = 'tried@example.org'"
    )
    await made.hold(alice.id, "alice@example.test", "a test")
    now = mail.now()
    async with mail.database.transaction() as tx:
        assert await stored.release(tx, alice.id, now, queued=True)
    rows = await mail.database.fetch("SELECT next_attempt FROM queue_recipient ORDER BY recipient")
    assert [row["next_attempt"] for row in rows] == [later, now]


async def test_whom_an_account_wrote_before_is_no_stranger(mail: Mail, alice: Account) -> None:
    friends = [f"user{n}@example.org" for n in range(5)]
    old = brake(mail, new_recipients_per_hour=5)
    assert await old.admit(alice.id, "alice@example.test", friends) == ""
    await old.flush()
    new = brake(mail, new_recipients_per_hour=5)
    for _ in range(3):
        assert await new.admit(alice.id, "alice@example.test", friends) == ""
    assert await new.admit(alice.id, "alice@example.test", ["USER1@example.org", "x@y.test"]) == ""


async def test_too_much_in_an_hour_is_put_off_and_does_not_count(
    mail: Mail, alice: Account, bob: Account, servers: Servers
) -> None:
    made = brake(mail, recipients_per_hour=2)
    await send(servers, "bob@example.test", "carol@example.org")
    with pytest.raises(smtplib.SMTPDataError) as refusal:
        await send(servers, "bob@example.test")
    assert refusal.value.args[0] == 451
    assert await stored.held(mail.database) == []
    assert await made.admit(bob.id, "bob@example.test", ["a@b.test", "b@b.test"]) == ""


async def test_all_processes_count_together(mail: Mail, alice: Account) -> None:
    one, two = brake(mail, messages_per_hour=2), brake(mail, messages_per_hour=2)
    for made in (one, two):
        assert await made.admit(alice.id, "alice@example.test", ["a@b.test"]) == ""
        await made._rates.flush()
    assert await two.admit(alice.id, "alice@example.test", ["a@b.test"]) == "too fast"


async def test_recipients_that_others_refuse_hold_the_account(
    mail: Mail, alice: Account, servers: Servers
) -> None:
    made = brake(mail, refused_per_hour=2)
    await send(servers, *(f"user{n}@example.org" for n in range(3)))
    await mail.database.execute(
        "UPDATE queue_recipient SET state = 2, finished_at = now(), last_reply = '550 no user',"
        " remote = 'mx.example.org'"
    )
    await made.look("this process")
    [held] = await stored.held(mail.database)
    assert held.reason == "other servers refused 3 of its recipients in an hour"
    async with mail.database.transaction() as tx:
        await stored.release(tx, alice.id, mail.now(), queued=True)
    await made.look("this process")
    assert await stored.held(mail.database) == []


async def test_who_is_exempt_is_not_limited(mail: Mail, alice: Account) -> None:
    made = brake(mail, messages_per_hour=1, exempt="alice@example.test")
    for _ in range(3):
        assert await made.admit(alice.id, "alice@example.test", ["a@b.test"]) == ""


async def test_who_is_exempt_is_not_held_for_what_others_refuse(
    mail: Mail, alice: Account, servers: Servers
) -> None:
    made = brake(mail, refused_per_hour=1, exempt="alice@example.test")
    await send(servers, *(f"user{n}@example.org" for n in range(3)))
    await mail.database.execute(
        "UPDATE queue_recipient SET state = 2, finished_at = now(), last_reply = '550 no user',"
        " remote = 'mx.example.org' WHERE recipient <> 'user0@example.org'"
    )
    await made.look("this process")
    assert await stored.held(mail.database) == []
    assert await states(mail) == [0, 2, 2]
    await made.hold(alice.id, "alice@example.test", "before it was exempt")
    await mail.database.execute("UPDATE queue_recipient SET state = 0 WHERE state = 3")
    await made.look("this process")
    assert await states(mail) == [0, 2, 2]


async def test_what_is_given_up_here_does_not_count_as_refused(
    mail: Mail, alice: Account, servers: Servers
) -> None:
    made = brake(mail, refused_per_hour=2)
    await send(servers, *(f"user{n}@example.org" for n in range(3)))
    assert await queueing.act(mail, queueing.Action.FAIL, Filter()) == 3
    await made.look("this process")
    assert await stored.held(mail.database) == []
    await mail.database.execute("UPDATE queue_recipient SET status = '5.1.2'")  # no such domain
    await made.look("this process")
    assert len(await stored.held(mail.database)) == 1
