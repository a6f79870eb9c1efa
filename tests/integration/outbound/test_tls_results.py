"""What TLS reports are made of: each session under its policy, and in which way it failed."""

import json

import pytest

from mailserver.feedback.model import Kind
from mailserver.feedback.sending import tls_policies
from mailserver.model import QueueState
from mailserver.storage import feedback
from tests.integration.outbound.conftest import Sending
from tests.integration.outbound.test_dane import Host, host, tlsa
from tests.integration.outbound.test_security import POLICY, Domain, domain

__all__ = ["domain", "host"]  # fixtures

Counted = list[tuple[str, str, str, int]]


async def counted(sending: Sending, about: str) -> Counted:
    """Return policy type, result, host and number of what was counted for a domain."""
    await sending.tally.flush()
    today = sending.mail.now().date()
    rows = await feedback.counts(sending.mail.database, Kind.TLS, today, about, 100)
    details = [(json.loads(detail), times) for detail, times in rows]
    assert sum(each.succeeded + each.failed for each in tls_policies(about, details)) == sum(
        times for _, times in details
    )
    return sorted((each["type"], each["result"], each["host"], n) for each, n in details)


async def delivered(sending: Sending, recipient: str, state: QueueState) -> None:
    if not sending.workers:  # a second one of its name would give back what the first has taken
        await sending.work()
    await sending.send(recipient)
    await sending.settled(recipient, state)


async def test_server_without_a_policy(sending: Sending) -> None:
    sending.domain("plain.example", (10, "mx.plain.example", "127.0.0.2"))
    sending.domain("good.example", (10, "mx.good.example", "127.0.0.3"))
    await sending.peer()
    await sending.peer("127.0.0.3", tls=sending.tls.server)
    await delivered(sending, "a@plain.example", QueueState.DELIVERED)
    await delivered(sending, "a@good.example", QueueState.DELIVERED)
    assert await counted(sending, "plain.example") == [
        ("no-policy-found", "starttls-not-supported", "mx.plain.example", 1)
    ]
    assert await counted(sending, "good.example") == [("no-policy-found", "", "", 1)]


async def test_server_that_is_away_says_nothing_about_tls(sending: Sending) -> None:
    sending.domain("away.example", (10, "mx.away.example", "127.0.0.2"))
    await delivered(sending, "a@away.example", QueueState.WAITING)
    assert await counted(sending, "away.example") == []


@pytest.mark.parametrize(
    ("fault", "result"),
    [
        ("none", ""),
        ("no TLS", "starttls-not-supported"),
        ("other certificate", "certificate-host-mismatch"),
        ("unknown authority", "certificate-not-trusted"),
        ("other host", "validation-failure"),
    ],
)
@pytest.mark.parametrize("mode", ["enforce", "testing"])
async def test_mta_sts(
    sending: Sending, domain: Domain, fault: str, result: str, mode: str
) -> None:
    name = "*.else.example" if fault == "other host" else "mx.sts.example"
    domain.policy = POLICY.format(mode=mode, mx=name)
    tls = {"no TLS": None, "other certificate": sending.tls.server}.get(fault, domain.context)
    if fault == "unknown authority":
        # the policy is fetched while the authority is known
        await sending.peer(tls=tls)
        await delivered(sending, "first@sts.example", QueueState.DELIVERED)
        await sending.stop()
        sending.authorities.clear()
        sending.workers.clear()
        sending.tasks.clear()
        sending.peers.clear()
    await sending.peer(tls=tls)
    waits = bool(result) and mode == "enforce"
    state = QueueState.WAITING if waits else QueueState.DELIVERED
    await delivered(sending, "b@sts.example", state)
    found = await counted(sending, "sts.example")
    where = "mx.sts.example" if result else ""
    assert ("sts", result, where, 1) in found
    assert len(found) == (2 if fault == "unknown authority" else 1)


@pytest.mark.parametrize(
    ("record", "result"),
    [("3 1 1 " + "ab" * 32, "validation-failure"), ("1 1 1 " + "ab" * 32, "")],
)
async def test_dane(sending: Sending, host: Host, record: str, result: str) -> None:
    tlsa(sending, record)
    await sending.peer(tls=host.context)
    state = QueueState.WAITING if result else QueueState.DELIVERED
    await delivered(sending, "b@dane.example", state)
    assert await counted(sending, "dane.example") == [
        ("tlsa", result, "mx.dane.example" if result else "", 1)
    ]
    rows = await feedback.counts(
        sending.mail.database, Kind.TLS, sending.mail.now().date(), "dane.example", 1
    )
    assert json.loads(rows[0][0])["policy"] == [record]


async def test_dane_without_an_answer(sending: Sending, host: Host) -> None:
    tlsa(sending, "3 1 1 " + "ab" * 32)
    sending.names.failing.add(f"_{sending.port}._tcp.mx.dane.example")
    await sending.peer(tls=host.context)
    await delivered(sending, "b@dane.example", QueueState.WAITING)
    assert await counted(sending, "dane.example") == [
        ("tlsa", "dnssec-invalid", "mx.dane.example", 1)
    ]
