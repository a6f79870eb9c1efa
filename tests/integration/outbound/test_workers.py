"""Several workers on one queue, and what is left of those that die."""

import asyncio
import contextlib
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from mailserver.mail import outgoing, queueing
from mailserver.mail.outgoing import Recorder
from mailserver.mail.queueing import Action, Filter
from mailserver.model import QueueState
from mailserver.queue.rules import Outcome, Result, Schedule
from mailserver.queue.work import BEATS, LEASE_TIME, Ended, LeaseLost, Ledger
from mailserver.storage import queue_work
from tests.integration.outbound.conftest import LETTER, QUICK, Sending


async def test_two_workers_deliver_each_message_once(sending: Sending) -> None:
    peer = await sending.peer()
    sending.domain("example.org", (10, "mx.example.org", "127.0.0.2"))
    for number in range(120):
        await sending.send(f"user{number}@example.org")
    await sending.work("one")
    await sending.work("two")
    await sending.until(lambda rows: all(row["state"] == QueueState.DELIVERED for row in rows))
    counts = Counter(message.recipients[0] for message in peer.received)
    assert len(counts) == 120
    assert max(counts.values()) == 1
    assert {row["attempts"] for row in await sending.rows()} == {1}


async def test_what_a_dead_worker_had_is_sent_by_another(sending: Sending) -> None:
    mail = sending.mail
    await sending.peer()
    sending.domain("example.org", (10, "mx.example.org", "127.0.0.2"))
    await sending.send("b@example.org")
    dead = Ledger(mail.database, "dead", lambda: mail.now() - 2 * LEASE_TIME, lambda: 0.5)
    await dead.beat()
    dying = Ledger(mail.database, "dead", mail.now, lambda: 0.5)
    assert len(await dying.claim(10, ())) == 1
    await sending.work()
    row = await sending.settled("b@example.org", QueueState.DELIVERED)
    assert row["attempts"] == 2


async def test_workers_that_all_lost_postgresql_do_not_take_each_other_for_dead(
    sending: Sending,
) -> None:
    clock = [sending.mail.now()]
    first, second = (
        Ledger(sending.mail.database, name, lambda: clock[0], lambda: 0.5)
        for name in ("first", "second")
    )
    await sending.send("b@example.org")
    await sending.send("c@example.org")
    clock[0] += timedelta(seconds=1)
    await first.beat()
    await second.beat()
    claims = await second.claim(10, ())
    clock[0] += 2 * LEASE_TIME  # nobody can write: what was sent meanwhile is not noted
    await first.beat()
    assert await first.reap() == (0, 0)
    done = Outcome(Result.RELAYED, "250 2.0.0 ok", "2.0.0")
    assert len(await second.record([Ended(claims[0], done, Schedule())])) == 1
    clock[0] += LEASE_TIME / BEATS
    await first.beat()
    assert await first.reap() == (1, 0)  # of one that is dead it is taken all the same


async def test_a_claim_whose_answer_was_lost_is_given_back(sending: Sending) -> None:
    await sending.peer()
    sending.domain("example.org", (10, "mx.example.org", "127.0.0.2"))
    await sending.send("b@example.org")
    lost = Ledger(sending.mail.database, "one", sending.mail.now, lambda: 0.5)
    await lost.beat()
    assert len(await lost.claim(10, ())) == 1
    await sending.work("one")  # it lives, so nobody takes back what it does not know to have
    row = await sending.settled("b@example.org", QueueState.DELIVERED)
    assert row["attempts"] == 1


async def test_who_kills_three_workers_is_set_aside(sending: Sending) -> None:
    mail = sending.mail
    await sending.send("poison@example.org")
    later = mail.now() + timedelta(hours=1)
    for number in range(3):
        ledger = Ledger(mail.database, f"dead{number}", partial(max, later, later), lambda: 0.5)
        assert len(await ledger.claim(10, ())) == 1
        expected = (1, 1) if number == 2 else (1, 0)
        assert await ledger.reap() == expected
        later += timedelta(hours=1)
    (row,) = await sending.rows()
    assert row["state"] == QueueState.HELD
    assert row["last_reply"].startswith("451 4.3.0 Set aside")


async def test_a_server_that_dribbles_is_given_up(sending: Sending) -> None:
    async def dribble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while not writer.is_closing():
                writer.write(b"2")
                await writer.drain()
                await asyncio.sleep(0.2)

    server = await asyncio.start_server(dribble, "127.0.0.9", sending.port)
    sending.domain("slow.example", (10, "mx.slow.example", "127.0.0.9"))
    await sending.work()
    await sending.send("b@slow.example")
    row = await sending.settled("b@slow.example", QueueState.WAITING)
    server.close()
    assert f"no answer in {QUICK.greeting:g} seconds" in row["last_reply"]


async def test_a_worker_that_lost_its_lease_writes_nothing(sending: Sending) -> None:
    mail = sending.mail
    await sending.send("b@example.org")
    slow = Ledger(mail.database, "slow", mail.now, lambda: 0.5)
    (claimed,) = await slow.claim(10, ())
    assert await slow.reap() == (1, 0)  # it never showed that it lives
    done = Outcome(Result.RELAYED, "250 2.0.0 ok", "2.0.0")
    assert await slow.record([Ended(claimed, done, Schedule())]) == []
    (row,) = await sending.rows()
    assert row["state"] == QueueState.WAITING


async def test_a_worker_that_wakes_up_does_not_go_on_with_a_message(sending: Sending) -> None:
    """It was frozen in the middle of a conversation until its lease had ended."""
    late = timedelta()
    sending.mail.now = lambda: datetime.now(UTC) + late

    def say(line: str) -> str | None:
        nonlocal late
        if line.startswith("DATA") and not late:
            late = 2 * LEASE_TIME
        return None

    peer = await sending.peer(say=say)
    sending.domain("example.org", (10, "mx.example.org", "127.0.0.2"))
    for number in range(3):
        await sending.send(f"user{number}@example.org")
    await sending.work()
    rows = await sending.until(lambda rows: all(row["finished_at"] for row in rows))
    assert {(row["state"], row["attempts"]) for row in rows} == {(QueueState.DELIVERED, 1)}
    counts = Counter(message.recipients[0] for message in peer.received)
    assert list(counts.values()) == [1, 1, 1]
    assert sum(line.startswith("DATA") for line in peer.lines) > 3


async def test_what_was_taken_before_a_freeze_is_nobodys_afterwards(sending: Sending) -> None:
    mail = sending.mail
    late = timedelta()
    mail.now = lambda: datetime.now(UTC) + late
    frozen, other = (
        Ledger(mail.database, name, mail.now, lambda: 0.5) for name in ("frozen", "other")
    )
    await sending.send("b@example.org")
    await frozen.beat()
    taken_at = mail.now()
    stale = await frozen.claim(10, ())
    frozen.check(taken_at)
    late = 2 * LEASE_TIME
    with pytest.raises(LeaseLost):
        frozen.check(taken_at)
    await other.beat()
    assert await other.reap() == (1, 0)
    await sending.due(timedelta(0))
    await frozen.beat()
    with pytest.raises(LeaseLost):
        frozen.check(taken_at)
    again_at = mail.now()
    assert len(await frozen.claim(10, ())) == 1
    frozen.check(again_at)
    await frozen.release(stale)
    (row,) = await sending.rows()
    assert row["state"] == QueueState.SENDING


async def test_an_outcome_that_cannot_be_written_is_written_without_its_words(
    sending: Sending,
) -> None:
    """Else the recipient would stay with a worker that lives: neither tried again nor reported."""
    mail = sending.mail
    await sending.send("b@example.org")
    ledger = Ledger(mail.database, "one", mail.now, lambda: 0.5)
    (claimed,) = await ledger.claim(10, ())
    recorder = Recorder(mail, ledger, lambda: None)
    unspeakable = Outcome(Result.FAILED, "550 5.1.1 no such\0user", "5.1.1", "mx\0.example.org")
    await recorder.record([Ended(claimed, unspeakable, Schedule())])
    await recorder.drain()
    (row,) = await sending.rows()
    assert row["state"] == QueueState.FAILED
    assert row["last_reply"] == "550 5.0.0 The reply could not be kept"


async def test_a_stop_gives_back_what_was_not_sent(sending: Sending) -> None:
    await sending.peer(stalls=True)
    sending.domain("example.org", (10, "mx.example.org", "127.0.0.2"))
    for number in range(40):
        await sending.send(f"user{number}@example.org")
    worker = await sending.work()
    await sending.until(lambda rows: any(row["state"] == QueueState.SENDING for row in rows))
    await worker.stop(0)
    rows = await sending.rows()
    assert {row["state"] for row in rows} == {QueueState.WAITING}
    assert all(row["lease_owner"] is None for row in rows)


async def test_one_slow_destination_keeps_nobody_waiting(sending: Sending) -> None:
    await sending.peer("127.0.0.9", stalls=True)
    sending.domain("slow.example", (10, "mx.slow.example", "127.0.0.9"))
    good = await sending.peer()
    for number in range(300):
        await sending.send(f"user{number}@slow.example")
    for number in range(30):
        domain = f"d{number}.example"
        sending.domain(domain, (10, f"mx.{domain}", "127.0.0.2"))
        await sending.send(f"user@{domain}")
    # the slow one is not given up before the others have been waited for
    await sending.work(timeouts=replace(QUICK, greeting=300))
    await good.wait_for(30)


async def test_a_host_that_is_down_is_not_asked_for_each_message(sending: Sending) -> None:
    peer = await sending.peer("127.0.0.9", stalls=True)
    sending.domain("down.example", (10, "mx.down.example", "127.0.0.9"))
    for number in range(60):
        await sending.send(f"user{number}@down.example")
    await sending.work()
    await sending.until(
        lambda rows: all(row["state"] == QueueState.WAITING and row["last_reply"] for row in rows)
    )
    assert peer.connections < 15


async def test_finished_recipients_are_forgotten_with_their_bodies(sending: Sending) -> None:
    mail = sending.mail
    await sending.peer()
    sending.domain("example.org", (10, "mx.example.org", "127.0.0.2"))
    await sending.work()
    queue_id = await sending.send("b@example.org", raw=LETTER + b"once\r\n")
    await sending.settled("b@example.org", QueueState.DELIVERED)
    assert await outgoing.purge(mail, 10) == 0
    await mail.database.execute(
        "UPDATE queue_recipient SET finished_at = $1", mail.now() - timedelta(days=8)
    )
    assert await outgoing.purge(mail, 10) == 1
    assert await mail.database.fetch("SELECT FROM queue_message WHERE id = $1", queue_id) == []
    refs = await mail.database.fetchval("SELECT sum(refs) FROM blob")
    assert refs == 0


async def test_two_who_forget_the_last_recipients_of_a_message_forget_it(sending: Sending) -> None:
    mail = sending.mail
    await sending.send("a@example.org", "b@example.org")
    long_ago = mail.now() - timedelta(days=8)
    await mail.database.execute("UPDATE queue_recipient SET state = 1, finished_at = $1", long_ago)
    async with mail.database.transaction() as one, mail.database.transaction() as other:
        first, _ = await queue_work.purge(one, mail.now(), 1)
        second, _ = await queue_work.purge(other, mail.now(), 1)
    assert (first, second) == (1, 0)  # one message is in one hand
    assert await outgoing.purge(mail, 10) == 1
    assert await mail.database.fetch("SELECT FROM queue_message") == []
    assert await mail.database.fetchval("SELECT sum(refs) FROM blob") == 0


async def test_all_recipients_of_a_message_are_found(sending: Sending) -> None:
    mail = sending.mail
    await sending.send("first@example.net")
    await sending.send(*(f"user{number}@example.org" for number in range(1000)))
    await sending.send("last@example.net")
    found = [entry.recipient async for entry in queueing.found(mail, Filter())]
    assert (found[0], found[-1]) == ("first@example.net", "last@example.net")
    assert len(set(found)) == len(found) == 1002
    assert len([entry async for entry in queueing.found(mail, Filter(), 700)]) == 700
    assert await queueing.act(mail, Action.HOLD, Filter(domain="example.org")) == 1000
