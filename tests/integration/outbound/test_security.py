"""What protects mail on its way: MTA-STS, REQUIRETLS, and certificates where they are asked for."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest
import pytest_asyncio

from mailserver.model import QueueState
from mailserver.tls import make_development_ca, server_context
from tests.integration.outbound.conftest import Sending

POLICY = "version: STSv1\nmode: {mode}\nmx: {mx}\nmax_age: 86400\n"


@dataclass
class Domain:
    """`sts.example` with a policy on the web, a certificate and a mail server."""

    context: ssl.SSLContext
    policy: str = ""
    asked: list[bytes] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n" + self.policy.encode())
        await writer.drain()
        writer.close()


@pytest_asyncio.fixture
async def domain(sending: Sending, tmp_path: Path) -> AsyncIterator[Domain]:
    names = ["mta-sts.sts.example", "mx.sts.example"]
    files = make_development_ca(tmp_path / "sts", names, datetime.now(UTC))
    found = Domain(server_context(files.certificate, files.key))
    server = await asyncio.start_server(found.serve, "127.0.0.8", 0, ssl=found.context)
    sending.https_port = server.sockets[0].getsockname()[1]
    sending.authorities.append(files.ca)
    sending.names.add("mta-sts.sts.example", "A", "127.0.0.8")
    sending.names.add("_mta-sts.sts.example", "TXT", '"v=STSv1; id=1;"')
    sending.domain("sts.example", (10, "mx.sts.example", "127.0.0.2"))
    yield found
    server.close()


async def test_a_policy_that_is_kept_is_met(sending: Sending, domain: Domain) -> None:
    domain.policy = POLICY.format(mode="enforce", mx="*.sts.example")
    peer = await sending.peer(tls=domain.context)
    await sending.work()
    await sending.send("b@sts.example")
    await sending.settled("b@sts.example", QueueState.DELIVERED)
    assert peer.received[0].tls
    assert domain.asked[0].startswith(b"GET /.well-known/mta-sts.txt HTTP/1.1\r\n")
    await sending.send("c@sts.example")
    await sending.settled("c@sts.example", QueueState.DELIVERED)
    assert len(domain.asked) == 1
    rows = await sending.mail.database.fetch("SELECT id FROM mta_sts_policy")
    assert [row["id"] for row in rows] == ["1"]


async def test_a_policy_is_found_at_any_address_of_its_host(
    sending: Sending, domain: Domain
) -> None:
    addresses = [f"127.0.0.{last}" for last in (8, 9, 10, 11)]  # one listens
    sending.names.add("mta-sts.sts.example", "A", *addresses)
    domain.policy = POLICY.format(mode="enforce", mx="*.sts.example")
    await sending.peer(tls=domain.context)
    await sending.work()
    await sending.send("b@sts.example")
    await sending.settled("b@sts.example", QueueState.DELIVERED)
    assert len(domain.asked) == 1


@pytest.mark.parametrize("fault", ["no TLS", "other certificate", "other host"])
async def test_mail_waits_rather_than_break_a_policy(
    sending: Sending, domain: Domain, fault: str
) -> None:
    host = "*.else.example" if fault == "other host" else "mx.sts.example"
    domain.policy = POLICY.format(mode="enforce", mx=host)
    tls = {"no TLS": None, "other certificate": sending.tls.server}.get(fault, domain.context)
    peer = await sending.peer(tls=tls)
    await sending.work()
    await sending.send("b@sts.example")
    row = await sending.settled("b@sts.example", QueueState.WAITING)
    assert row["status"] in ("4.7.5", "4.4.2")
    assert peer.received == []


@pytest.mark.parametrize("mode", ["testing", "none"])
async def test_a_policy_that_only_tests_stops_nothing(
    sending: Sending, domain: Domain, mode: str
) -> None:
    domain.policy = POLICY.format(mode=mode, mx="mx.else.example")
    await sending.peer()
    await sending.work()
    await sending.send("b@sts.example")
    await sending.settled("b@sts.example", QueueState.DELIVERED)


async def test_what_must_be_private_all_the_way(sending: Sending, domain: Domain) -> None:
    sending.names.records.clear()
    sending.domain("good.example", (10, "mx.sts.example", "127.0.0.2"))
    sending.domain("plain.example", (10, "mx.plain.example", "127.0.0.3"))
    sending.domain("lacks.example", (10, "mx.sts.example", "127.0.0.2"))
    good = await sending.peer(
        "127.0.0.2", tls=domain.context, extensions=("PIPELINING", "REQUIRETLS")
    )
    plain = await sending.peer("127.0.0.3")
    await sending.work()
    await sending.send("b@good.example", require_tls=True)
    await sending.send("b@plain.example", require_tls=True)
    await sending.settled("b@good.example", QueueState.DELIVERED)
    assert good.received[0].sender.endswith(" REQUIRETLS")
    await sending.settled("b@plain.example", QueueState.WAITING)
    assert plain.received == []
    good.extensions = ("PIPELINING",)
    await sending.send("b@lacks.example", require_tls=True)
    row = await sending.settled("b@lacks.example", QueueState.FAILED)
    assert row["status"] == "5.7.30"
