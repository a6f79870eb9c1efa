"""Mail that has to be delivered by a time, and mail that goes before other mail."""

import json
from datetime import timedelta
from typing import Any

from mailserver.mail.context import Mail
from mailserver.model import Account, QueueState
from mailserver.queue.rules import DeliverBy
from mailserver.queue.work import Ledger
from tests.integration.outbound.conftest import Sending
from tests.integration.outbound.test_reports import groups, reports

KNOWING = ("PIPELINING", "8BITMIME", "DSN", "DELIVERBY 10", "MT-PRIORITY")


def within(mail: Mail, seconds: float, *, returns: bool, traced: bool = False) -> DeliverBy:
    return DeliverBy(mail.now() + timedelta(seconds=seconds), returns, traced)


async def test_the_time_that_is_left_is_passed_on(
    sending: Sending, mail: Mail, alice: Account
) -> None:
    peer = await sending.peer("127.0.0.2", extensions=KNOWING)
    sending.domain("example.org", (10, "mx.example.org", "127.0.0.2"))
    await sending.work()
    by = within(mail, 120, returns=True, traced=True)
    await sending.send("b@example.org", deliver_by=by, priority=4)
    await peer.wait_for(1)
    sender = peer.received[0].sender.split()
    name, _, left = sender[2].partition("=")
    assert (name, left.partition(";")[2]) == ("BY", "RT")
    assert 60 < int(left.partition(";")[0]) < 120
    assert sender[3] == "MT-PRIORITY=4"
    # RFC 2852 §4.1.4: a trace tells of each relay, whoever reports the delivery
    (message,) = await reports(sending, mail, alice, 1)
    assert groups(message)[0]["Action"] == "relayed"


async def test_a_server_that_promises_nothing_does_not_get_what_must_come_back(
    sending: Sending, mail: Mail, alice: Account
) -> None:
    peer = await sending.peer("127.0.0.2")
    sending.domain("example.org", (10, "mx.example.org", "127.0.0.2"))
    await sending.work()
    await sending.send("b@example.org", deliver_by=within(mail, 120, returns=True))
    (message,) = await reports(sending, mail, alice, 1)
    assert groups(message)[0]["Status"] == "5.3.3"
    assert "Deliver-By-Date: " in message.as_string()
    assert peer.received == []
    await sending.send("c@example.org", deliver_by=within(mail, 120, returns=False))
    await peer.wait_for(1)
    assert "BY=" not in peer.received[0].sender


async def test_what_is_late_goes_back_without_another_attempt(
    sending: Sending, mail: Mail, alice: Account
) -> None:
    peer = await sending.peer("127.0.0.2", extensions=KNOWING)
    sending.domain("example.org", (10, "mx.example.org", "127.0.0.2"))
    await sending.send("b@example.org", deliver_by=within(mail, -1, returns=True))
    await sending.work()
    (message,) = await reports(sending, mail, alice, 1)
    assert groups(message)[0]["Action"] == "failed"
    assert groups(message)[0]["Status"] == "5.4.7"
    assert peer.connections == 0


async def test_who_wants_to_know_is_told_in_time_and_the_message_stays(
    sending: Sending, mail: Mail, alice: Account
) -> None:
    by = within(mail, 0.2, returns=False)
    sending.domain("example.org", (10, "mx.example.org", "127.0.0.2"))  # nobody is there
    await sending.send("b@example.org", deliver_by=by, notify="FAILURE")
    await sending.send("c@example.org", deliver_by=by, notify="NEVER")
    rows = await sending.rows()
    assert [row["delay_at"] for row in rows] == [by.at, None]
    assert all(row["expires_at"] > by.at + timedelta(days=4) for row in rows)
    await mail.database.execute(
        "UPDATE queue_recipient SET next_attempt = $1", mail.now() + timedelta(hours=1)
    )
    await sending.until(lambda _: mail.now() > by.at)
    await sending.work()
    (message,) = await reports(sending, mail, alice, 1)
    assert groups(message)[0]["Action"] == "delayed"
    assert {row["state"] for row in (await sending.rows())[:2]} == {QueueState.WAITING}


async def test_urgent_mail_leaves_first(sending: Sending, mail: Mail) -> None:
    for number, priority in enumerate((0, -3, 4, 0, 9, -9)):
        await sending.send(f"{number}@example.org", priority=priority)
    ledger = Ledger(mail.database, "one", mail.now, lambda: 0.5)
    await ledger.beat()
    taken = [await ledger.claim(1, ()) for _ in range(6)]
    assert [each.recipient[0] for (each,) in taken] == ["2", "4", "0", "3", "1", "5"]
    await ledger.release([each for (each,) in taken])
    again = [await ledger.claim(1, ("other.example",)) for _ in range(6)]
    assert [each.recipient[0] for (each,) in again][:2] == ["2", "4"]
    assert [each.recipient[0] for (each,) in again][4:] == ["1", "5"]


async def test_claims_are_steps_into_an_index(sending: Sending, mail: Mail) -> None:
    await mail.database.execute(
        """
        INSERT INTO queue_message (id, account_id, blob_id, sender, size, smtputf8, body,
                                   received_at, session)
        VALUES (1, $1, '', '', 1, false, '7BIT', now(), '')
        """,
        sending.alice.id,
    )
    await mail.database.execute(
        """
        INSERT INTO queue_recipient (message_id, recipient, domain, state, next_attempt, expires_at,
                                     rank)
        SELECT 1, n || '@example.org', 'example.org', 0, now() - interval '1 hour', now(), 2 - n % 2
        FROM generate_series(1, 20000) AS n
        """
    )
    await mail.database.execute("ANALYZE queue_recipient")
    statement = """
        SELECT found.message_id, found.recipient
        FROM generate_series(0, 2) AS wanted(rank)
        CROSS JOIN LATERAL (
            SELECT message_id, recipient
            FROM queue_recipient
            WHERE state = 0 AND rank = wanted.rank AND next_attempt <= now()
            ORDER BY next_attempt
            LIMIT 50
            FOR UPDATE SKIP LOCKED
        ) AS found
        LIMIT 50
    """
    plan = await mail.database.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}")
    scans = [each for each in nodes(json.loads(plan)[0]["Plan"]) if "Relation Name" in each]
    assert [each["Node Type"] for each in scans] == ["Index Scan"]
    assert scans[0]["Index Name"] == "queue_recipient_rank"
    assert scans[0]["Actual Rows"] <= 50
    await mail.database.execute("DELETE FROM queue_message WHERE id = 1")


def nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    """Return all nodes of a plan."""
    return [plan, *(node for child in plan.get("Plans", ()) for node in nodes(child))]
