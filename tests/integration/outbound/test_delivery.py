"""Mail leaves: routes, hosts, replies, and what is noted of each recipient."""

import pytest

from mailserver.errors import NotFound
from mailserver.mail import outgoing
from mailserver.mail.context import Mail
from mailserver.mail.outgoing import Recorder
from mailserver.model import Account, QueueState
from mailserver.queue.rules import Schedule
from mailserver.queue.work import Ledger
from tests.integration.outbound.conftest import LETTER, Sending
from tests.integration.smtp.conftest import inbox


async def test_mail_goes_to_the_best_host(sending: Sending) -> None:
    best, other = await sending.peer("127.0.0.2"), await sending.peer("127.0.0.3")
    sending.domain(
        "example.org", (20, "b.example.org", "127.0.0.3"), (10, "a.example.org", "127.0.0.2")
    )
    await sending.work()
    await sending.send("carol@example.org", "dave@example.org")
    row = await sending.settled("carol@example.org", QueueState.DELIVERED)
    (message,) = best.received
    assert message.content == LETTER
    assert message.sender == f"MAIL FROM:<alice@example.test> SIZE={len(LETTER)}"
    assert message.recipients == ["RCPT TO:<carol@example.org>", "RCPT TO:<dave@example.org>"]
    assert other.connections == 0
    assert (row["last_reply"], row["status"]) == ("250 2.0.0 taken", "2.0.0")
    assert row["remote"] == "a.example.org [127.0.0.2]"
    assert row["attempts"] == 1
    assert row["finished_at"] is not None
    assert row["lease_owner"] is None


# with a second one, a connection might be opened while the first still ends its delivery
@pytest.mark.parametrize("config", [{"destination_concurrency": 1}], indirect=True)
async def test_mail_submitted_while_a_worker_waits_leaves_at_once(sending: Sending) -> None:
    peer = await sending.peer()
    sending.domain("example.org", (10, "mx.example.org", "127.0.0.2"))
    await sending.work()
    await sending.send("carol@example.org")
    await peer.wait_for(1)
    await sending.send("dave@example.org")
    await peer.wait_for(2)
    assert peer.connections == 1  # the connection waited for it


async def test_replies_decide_on_each_recipient(sending: Sending) -> None:
    def say(line: str) -> str | None:
        if "RCPT TO:<nobody@" in line:
            return "550 5.1.1 no such user"
        if "RCPT TO:<full@" in line:
            return "452-4.2.2 mailbox\r\n452 4.2.2 full"
        return None

    peer = await sending.peer(say=say)
    sending.domain("example.org", (10, "mx.example.org", "127.0.0.2"))
    await sending.work()
    await sending.send("full@example.org", "good@example.org", "nobody@example.org")
    good = await sending.settled("good@example.org", QueueState.DELIVERED)
    assert good["last_reply"] == "250 2.0.0 taken"
    full = await sending.settled("full@example.org", QueueState.WAITING)
    assert full["last_reply"] == "452 4.2.2 mailbox full"
    pause = (full["next_attempt"] - full["last_attempt"]).total_seconds()
    assert 270 <= pause <= 335
    nobody = await sending.settled("nobody@example.org", QueueState.FAILED)
    assert (nobody["last_reply"], nobody["status"]) == ("550 5.1.1 no such user", "5.1.1")
    assert len(peer.received) == 1


async def test_the_next_host_is_tried_when_one_is_down(sending: Sending) -> None:
    await sending.peer("127.0.0.3", greeting="554 go away")
    good = await sending.peer("127.0.0.4")
    sending.domain(
        "example.org",
        (10, "down.example.org", "127.0.0.2"),
        (20, "sulks.example.org", "127.0.0.3"),
        (30, "good.example.org", "127.0.0.4"),
    )
    await sending.work()
    await sending.send("carol@example.org")
    await sending.settled("carol@example.org", QueueState.DELIVERED)
    assert len(good.received) == 1


async def test_a_domain_that_is_down_is_tried_again(sending: Sending) -> None:
    sending.domain("example.org", (10, "mx.example.org", "127.0.0.2"))
    await sending.work()
    await sending.send("carol@example.org")
    row = await sending.settled("carol@example.org", QueueState.WAITING)
    assert row["status"] == "4.4.2"
    assert "mx.example.org: cannot connect" in row["last_reply"]


async def test_what_dns_says_is_final_or_not(sending: Sending) -> None:
    names = sending.names
    names.add("null.example", "MX", "0 .")
    names.add("nothing.example", "TXT", '"no mail here"')
    names.failing.add("servfail.example")
    sending.domain("loop.example", (10, "mail.example.test", "127.0.0.2"))
    await sending.work()
    for domain in ("null", "nothing", "servfail", "loop", "missing"):
        await sending.send(f"carol@{domain}.example")
    expected = {
        "null": (QueueState.FAILED, "5.1.10"),
        "nothing": (QueueState.FAILED, "5.4.4"),
        "servfail": (QueueState.WAITING, "4.4.3"),
        "loop": (QueueState.FAILED, "5.4.6"),
        "missing": (QueueState.FAILED, "5.1.2"),
    }
    for domain, (state, status) in expected.items():
        row = await sending.settled(f"carol@{domain}.example", state)
        assert row["status"] == status


async def test_a_domain_without_mx_is_its_own_host(sending: Sending) -> None:
    peer = await sending.peer()
    sending.names.add("example.org", "A", "127.0.0.2")
    await sending.work()
    await sending.send("carol@example.org")
    await sending.settled("carol@example.org", QueueState.DELIVERED)
    assert len(peer.received) == 1


async def test_mail_for_users_here_waits_and_is_delivered(
    sending: Sending, mail: Mail, bob: Account
) -> None:
    await sending.work()
    await sending.send("bob@example.test", "nobody@example.test")
    await sending.settled("bob@example.test", QueueState.DELIVERED)
    await sending.settled("nobody@example.test", QueueState.FAILED)
    (raw,) = await inbox(mail, bob)
    assert raw == b"Return-Path: <alice@example.test>\r\n" + LETTER


async def test_mail_for_users_here_is_delivered_once_whatever_dies(
    sending: Sending, mail: Mail, bob: Account
) -> None:
    await sending.send("bob@example.test")
    dying = Ledger(mail.database, "dying", mail.now, lambda: 0.5)
    claims = await dying.claim(10, ())
    recorder = Recorder(mail, dying, lambda: None)
    await outgoing.deliver_here(mail, recorder, claims, LETTER, Schedule())
    await recorder.drain()
    assert await dying.reap() == (0, 0)  # it died before it could record anything
    (row,) = await sending.rows()
    assert row["state"] == QueueState.DELIVERED
    await sending.send("bob@example.test", raw=LETTER + b"again\r\n")
    claims = await dying.claim(10, ())
    assert await dying.reap() == (1, 0)  # taken for dead, it goes on all the same
    with pytest.raises(NotFound):
        await outgoing.deliver_here(mail, recorder, claims, LETTER, Schedule())
    assert len(await inbox(mail, bob)) == 1


async def test_tls_is_used_where_it_is_offered(sending: Sending) -> None:
    peer = await sending.peer(tls=sending.tls.server)
    sending.domain("example.org", (10, "mx.example.org", "127.0.0.2"))
    await sending.work()
    await sending.send("carol@example.org")
    await sending.settled("carol@example.org", QueueState.DELIVERED)
    assert peer.received[0].tls


async def test_a_message_that_was_cut_comes_again(sending: Sending) -> None:
    ends = iter(["", None])
    peer = await sending.peer(say=lambda line: next(ends) if line == "END" else None)
    sending.domain("example.org", (10, "mx.example.org", "127.0.0.2"))
    await sending.work()
    await sending.send("carol@example.org")
    row = await sending.settled("carol@example.org", QueueState.WAITING)
    assert row["status"] == "4.4.2"
    await sending.due()
    row = await sending.settled("carol@example.org", QueueState.DELIVERED)
    assert row["attempts"] == 2
    assert len(peer.received) == 1


async def test_one_address_that_cannot_be_sent_keeps_no_other(sending: Sending) -> None:
    peer = await sending.peer(extensions=("PIPELINING", "8BITMIME"))
    sending.domain("example.org", (10, "mx.example.org", "127.0.0.2"))
    await sending.work()
    await sending.send("b@example.org", "grün@example.org", "c@example.org", smtputf8=True)
    await sending.settled("b@example.org", QueueState.DELIVERED)
    await sending.settled("c@example.org", QueueState.DELIVERED)
    row = await sending.settled("grün@example.org", QueueState.FAILED)
    assert row["status"] == "5.6.7"
    assert len(peer.received) == 2


async def test_a_server_that_takes_few_recipients_at_a_time(sending: Sending) -> None:
    taken = 0

    def say(line: str) -> str | None:
        nonlocal taken
        taken = 0 if line.startswith("MAIL") else taken + line.startswith("RCPT")
        return "452 4.5.3 too many" if line.startswith("RCPT") and taken > 3 else None

    peer = await sending.peer(say=say)
    sending.domain("example.org", (10, "mx.example.org", "127.0.0.2"))
    await sending.work()
    await sending.send(*(f"user{number}@example.org" for number in range(10)))
    rows = await sending.until(
        lambda rows: all(row["state"] == QueueState.DELIVERED for row in rows)
    )
    assert {row["attempts"] for row in rows} == {1}
    assert [len(message.recipients) for message in peer.received] == [3, 3, 3, 1]
