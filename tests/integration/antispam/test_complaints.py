"""What users of other servers complained about, with all checks as a server has them."""

import asyncio
import smtplib
import socket
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import timedelta

import pytest
import pytest_asyncio

from mailserver.antispam import trace
from mailserver.antispam.engines import build
from mailserver.antispam.engines.watch import EngineWatch
from mailserver.antispam.evidence import Finding, Inquiry
from mailserver.antispam.gate import Gate
from mailserver.antispam.pipeline import Pipeline
from mailserver.app.filters import Filters, filters
from mailserver.auth.credentials import Authenticator
from mailserver.config import Config, Engine, Listener
from mailserver.dns import Resolver
from mailserver.mail import accounts, queueing, sending
from mailserver.mail.context import Mail
from mailserver.mail.originals import Original
from mailserver.model import Account, IdKind, Role, id_text
from mailserver.smtp.server import SmtpServer
from mailserver.storage import spam_lists
from mailserver.storage.database import Database
from mailserver.storage.spam_lists import Entry
from tests.conftest import Bucketed, make_mail
from tests.integration.antispam.test_verdicts import found
from tests.name_server import NameServer

GTUBE = "XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"
CLIENT = "127.0.0.9"
REFUSALS = (smtplib.SMTPResponseException, smtplib.SMTPRecipientsRefused)
SPF = '"v=spf1 ip4:127.0.0.0/8 -all"'


@dataclass(frozen=True)
class Names:
    """DNS, and the port where it answers."""

    server: NameServer
    port: int


@pytest_asyncio.fixture
async def dns() -> AsyncIterator[Names]:
    """DNS in which example.org sends from loopback, and a list is in good order."""
    server = NameServer()
    port = await server.start()
    server.add("example.org", "TXT", SPF)
    server.add("_dmarc.example.org", "TXT", '"v=DMARC1; p=reject"')
    server.add("forged.test", "TXT", '"v=spf1 -all"')
    server.add("_dmarc.forged.test", "TXT", '"v=DMARC1; p=reject"')
    server.add("two.test", "TXT", '"v=spf1 -all"', '"v=spf1 +all"')
    server.add("2.0.0.127.zen.spamhaus.org", "A", "127.0.0.2")
    yield Names(server, port)
    server.stop()


@pytest.fixture
def names(dns: Names) -> NameServer:
    return dns.server


@pytest.fixture
def patience() -> float:
    """The seconds that DNS has for an answer; a test in which there is none has less."""
    return 60


@pytest_asyncio.fixture
async def config(dns: Names, patience: float) -> Config:
    return Config.model_validate(
        {
            "server": {"hostname": "mail.example.test"},
            "dns": {"servers": f"127.0.0.1:{dns.port}", "timeout": patience, "attempts": 1},
            "antispam": {"dns_lists": "zen", "time_limit": 120},
            "content": {"time_budget": 10},
        }
    )


class Server:
    """A listener of port 25 with all checks."""

    def __init__(self, mail: Mail, made: Filters) -> None:
        self.mail = mail
        self.gate = made.gate
        self.journal = made.journal
        self._server: SmtpServer | None = None
        self.port = 0

    @property
    def pipeline(self) -> Pipeline:
        assert self.gate.pipeline is not None
        return self.gate.pipeline

    async def start(self, gate: Gate) -> None:
        self._server = SmtpServer(
            mail=self.mail,
            authenticator=Authenticator(self.mail.database, passwords=self.mail.passwords),
            tls=None,
            kind="mx",
            gate=gate,
        )
        _, self.port = await self._server.start(Listener(host="127.0.0.1", port=0))

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop(5)

    async def send(
        self,
        body: str = "hello",
        *,
        sender: str = "carol@example.org",
        to: tuple[str, ...] = ("alice@example.test",),
        helo: str = "mx.example.org",
        author: str = "",
    ) -> None:
        text = f"From: {author or sender}\r\nMessage-ID: <1@example.org>\r\n\r\n{body}\r\n"

        def work() -> None:
            with smtplib.SMTP(
                "127.0.0.1", self.port, local_hostname=helo, source_address=(CLIENT, 0)
            ) as client:
                client.sendmail(sender, to, text)

        await asyncio.to_thread(work)

    async def refusal(self, *args: str, **how: str) -> str:
        """Send what is refused; return the last reply."""
        with pytest.raises(REFUSALS) as told:
            await self.send(*args, **how)  # type: ignore[arg-type]
        error = told.value
        if isinstance(error, smtplib.SMTPRecipientsRefused):
            [(code, text)] = error.recipients.values()
            return f"{code} {text.decode()}"
        assert isinstance(error, smtplib.SMTPResponseException)
        return f"{error.smtp_code} {error.smtp_error!s}"


@pytest_asyncio.fixture
async def server(mail: Mail, config: Config) -> AsyncIterator[Server]:
    resolver = Resolver(config.dns, asyncio.get_running_loop().time)
    made = await filters(mail, resolver, "test")
    assert made.gate.pipeline is not None
    lists = made.gate.pipeline.checks.dns_lists
    assert lists is not None
    await lists.test()
    server = Server(mail, made)
    await server.start(made.gate)
    yield server
    await server.stop()
    await made.close()


async def test_07_times_of_the_queue_are_stored_whatever_the_configuration_says_later(
    mail: Mail, alice: Account, bucket: Bucketed
) -> None:
    raw = b"From: alice@example.test\r\n\r\nhello\r\n"
    recipient = sending.Recipient("dave@example.net", "example.net", ())
    envelope = sending.Envelope(alice.id, "alice@example.test", (recipient,), "s")
    await sending.send(mail, Original(raw), envelope, b"", message_id="1@example.test")
    [before] = [entry async for entry in queueing.found(mail, queueing.Filter())]
    other = Config.model_validate({"outbound": {"retry_first": 1, "retry_longest": 2}})
    later = make_mail(mail.database, bucket.blobs, other, node=2)
    try:
        await queueing.act(later, queueing.Action.HOLD, queueing.Filter())
        await queueing.act(later, queueing.Action.RELEASE, queueing.Filter())
        [after] = [entry async for entry in queueing.found(later, queueing.Filter())]
    finally:
        later.passwords.close()
    assert (after.expires_at, after.attempts) == (before.expires_at, 0)


async def test_09_a_full_mailbox_is_told_at_rcpt_and_costs_no_message(
    mail: Mail, alice: Account, server: Server
) -> None:
    await mail.database.execute(
        "UPDATE account SET quota_limit = 9999, quota_used = 9999 WHERE id = $1", alice.id
    )
    reply = await server.refusal()
    await mail.database.execute(
        "UPDATE account SET quota_limit = NULL, quota_used = 0 WHERE id = $1", alice.id
    )
    assert reply.startswith("452 4.2.2")


async def test_11_spam_is_refused_in_the_session_and_traced(
    mail: Mail, alice: Account, server: Server
) -> None:
    assert (await server.refusal(GTUBE)).startswith("550 b'5.7.1 looks like spam, score 100")
    assert await found(mail, alice, Role.INBOX) == await found(mail, alice, Role.JUNK) == []
    await server.journal.flush()
    [told] = await trace.find(mail.database, ["1@example.org"], 5)
    assert told.story["action"] == "refused"
    assert "GTUBE" in str(told.story["findings"])


async def test_12_a_broken_filter_marks_no_mail_and_stops_none(
    mail: Mail,
    alice: Account,
    server: Server,
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Broken:
        name = "content"

        async def judge(self, inquiry: Inquiry, findings: object) -> Finding:
            raise ZeroDivisionError

    checks = replace(server.pipeline.checks, judges=[Broken()])
    pipeline = Pipeline(mail.config.antispam, checks, mail.metrics, asyncio.get_running_loop().time)
    await server.stop()
    await server.start(Gate(pipeline, server.journal))
    await server.send(GTUBE)
    [(raw, keywords)] = await found(mail, alice, Role.INBOX)
    assert b"failed=content" in raw
    assert keywords == {}
    assert "check failed: messages are delivered without it" in caplog.messages
    assert b'test_checks_total{check="content",result="error"} 1.0' in mail.metrics.render()


@pytest.mark.parametrize("whose", ["server", "domain", "user"])
async def test_13_who_is_allowed_is_in_the_inbox_whatever_the_score(
    mail: Mail, alice: Account, server: Server, whose: str
) -> None:
    scope = {"server": "", "domain": "@example.test", "user": id_text(IdKind.ACCOUNT, alice.id)}
    await spam_lists.put(mail.database, Entry(scope[whose], "@example.org", "allow"), mail.now())
    await server.send(GTUBE)
    assert len(await found(mail, alice, Role.INBOX)) == 1
    # the same author from elsewhere: SPF passes for another domain, so DMARC does not
    reply = await server.refusal(GTUBE, sender="x@two.test", author="carol@example.org")
    assert reply.startswith("550 ")


async def test_14_a_list_that_answers_for_open_resolvers_bounces_nothing(
    mail: Mail, alice: Account, names: NameServer, server: Server
) -> None:
    names.add("9.0.0.127.zen.spamhaus.org", "A", "127.255.255.254")
    await server.send()
    assert len(await found(mail, alice, Role.INBOX)) == 1
    assert b'test_dns_list_in_use{list="zen"} 0.0' in mail.metrics.render()


async def test_14_a_client_on_a_list_is_refused_before_it_sends(
    alice: Account, mail: Mail, names: NameServer, server: Server
) -> None:
    names.add("9.0.0.127.zen.spamhaus.org", "A", "127.0.0.4")
    reply = await server.refusal()
    assert reply.startswith("550 5.7.1 127.0.0.9 is listed by zen.spamhaus.org")


async def test_15_mail_between_users_here_is_not_filtered(
    mail: Mail, alice: Account, bob: Account, server: Server
) -> None:
    raw = f"From: alice@example.test\r\n\r\n{GTUBE}\r\n".encode()
    envelope = sending.Envelope(
        alice.id,
        "alice@example.test",
        (sending.Recipient("bob@example.test", "example.test", (bob,)),),
        "s",
    )
    await sending.send(mail, Original(raw), envelope, b"", message_id="1@example.test")
    [(content, _)] = await found(mail, bob, Role.INBOX)
    assert b"X-Spam" not in content


async def test_16_greylisting_keeps_nothing_and_shows_nothing_twice(
    mail: Mail, alice: Account, server: Server
) -> None:
    reply = await server.refusal(helo="suspicious")
    assert reply.startswith("451 4.7.1 not seen before")
    assert await mail.database.fetchval("SELECT count(*) FROM email") == 0
    await mail.database.execute(
        "UPDATE greylist SET first_at = first_at - $1::interval", timedelta(seconds=61)
    )
    await server.send(helo="suspicious")
    assert len(await found(mail, alice, Role.INBOX)) == 1
    # known by its SPF domain from now on, so the next recipient is not put off
    await server.send(helo="suspicious", to=("alice+list@example.test",))
    assert len(await found(mail, alice, Role.INBOX)) == 2


async def test_17_spf_that_cannot_be_read_refuses_nothing(
    mail: Mail, alice: Account, server: Server
) -> None:
    await server.send(sender="carol@two.test")
    [(raw, _)] = await found(mail, alice, Role.INBOX)
    assert b"spf=permerror" in raw


async def test_dmarc_policies_are_kept_to(alice: Account, mail: Mail, server: Server) -> None:
    reply = await server.refusal(sender="boss@forged.test", helo="mx.forged.test")
    assert "greylist" not in reply
    assert "not seen before" in reply  # SPF fails: a suspicious client
    await mail.database.execute("UPDATE greylist SET passed = true, first_at = '2020-01-01'")
    reply = await server.refusal(sender="boss@forged.test", helo="mx.forged.test")
    assert reply == "550 b'5.7.26 fails the DMARC policy of forged.test'"


async def test_21_a_bare_line_feed_is_refused_with_a_reason(
    alice: Account, mail: Mail, server: Server
) -> None:
    def work() -> bytes:
        with socket.create_connection(("127.0.0.1", server.port)) as peer:
            stream = peer.makefile("rwb", buffering=0)
            stream.readline()
            for line in (b"HELO a.example.org", b"MAIL FROM:<a@example.org>"):
                stream.write(line + b"\r\n")
                stream.readline()
            stream.write(b"RCPT TO:<alice@example.test>\r\n")
            stream.readline()
            stream.write(b"DATA\r\n")
            stream.readline()
            stream.write(b"From: a@example.org\r\n\r\nhello\n.\nMAIL FROM:<evil@x.test>\r\n.\r\n")
            return stream.readline()

    reply = await asyncio.to_thread(work)
    assert reply.startswith(b"550-5.6.11 The message has a CR or an LF")
    await server.journal.flush()
    [told] = await trace.find(mail.database, ["a@example.org"], 5)
    assert told.story["stage"] == "message"
    assert await found(mail, alice, Role.INBOX) == []


@pytest.mark.parametrize("kind", ["milter", "clamd"])
async def test_25_a_port_of_another_service_is_told_and_loses_no_mail(
    mail: Mail,
    alice: Account,
    server: Server,
    kind: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    settings = Engine.model_validate(
        {"kind": kind, "address": f"127.0.0.1:{server.port}", "timeout": 1}
    )
    [engine] = build([settings], "mail.example.test")
    await EngineWatch([engine], mail.metrics).look()  # that port speaks SMTP
    assert "engine cannot be used" in caplog.messages
    checks = replace(server.pipeline.checks, judges=[engine])
    pipeline = Pipeline(mail.config.antispam, checks, mail.metrics, asyncio.get_running_loop().time)
    other = Server(mail, Filters(server.gate, server.journal, {}))
    await other.start(Gate(pipeline, server.journal))
    try:
        await other.send()
    finally:
        await other.stop()
        await engine.close()
    [(raw, _)] = await found(mail, alice, Role.INBOX)
    assert f"failed={kind}".encode() in raw


async def test_swaks_is_answered_at_each_stage(mail: Mail, alice: Account, server: Server) -> None:
    async def swaks(*options: str) -> str:
        command = ["swaks", "--server", f"127.0.0.1:{server.port}", "--to", "alice@example.test"]
        done = await asyncio.to_thread(
            subprocess.run, [*command, *options], capture_output=True, text=True
        )
        return done.stdout

    good = ("--from", "carol@example.org", "--ehlo", "mx.example.org")
    assert "<-  250 2.0.0 OK e" in await swaks(*good)
    assert "<** 550 5.7.1 looks like spam, score 1000" in await swaks(*good, "--body", GTUBE)
    assert "<** 451 4.7.1 not seen before" in await swaks("--from", "x@two.test", "--ehlo", "pc")
    [(raw, _)] = await found(mail, alice, Role.INBOX)
    assert b"spf=pass smtp.mailfrom=example.org" in raw
    assert b"dmarc=pass" in raw


async def test_26_one_address_behind_a_catch_all_can_be_closed(
    mail: Mail, alice: Account, server: Server
) -> None:
    await spam_lists.put(mail.database, Entry("", "to:shop@example.test", "deny"), mail.now())
    await accounts.add_alias(mail, "@example.test", "alice@example.test")
    reply = await server.refusal(to=("shop@example.test",))  # type: ignore[arg-type]
    assert reply == "550 5.2.1 this address takes no mail"
    await server.send(to=("another@example.test",))
    assert len(await found(mail, alice, Role.INBOX)) == 1


async def test_a_database_that_goes_away_in_the_middle_loses_nothing(
    mail: Mail, alice: Account, server: Server
) -> None:
    def begin() -> smtplib.SMTP:
        client = smtplib.SMTP("127.0.0.1", server.port, local_hostname="mx.example.org")
        client.ehlo()
        client.mail("carol@example.org")
        assert client.rcpt("alice@example.test")[0] == 250
        return client

    client = await asyncio.to_thread(begin)
    reachable = mail.database
    mail.database = Database(lambda: "postgresql://nobody@127.0.0.1:1/none", size=1)
    code, text = await asyncio.to_thread(client.data, b"From: carol@example.org\r\n\r\nhello\r\n")
    mail.database = reachable
    assert (code, text) == (451, b"4.3.2 Service not available now, try again later")
    await asyncio.to_thread(client.close)
    await server.send()
    assert len(await found(mail, alice, Role.INBOX)) == 1
    await server.journal.flush()
    told = await trace.find(mail.database, ["carol@example.org"], 5)
    assert [each.story["action"] for each in told] == ["deferred", "accepted"]


async def test_a_thousand_recipients(mail: Mail, alice: Account, server: Server) -> None:
    await accounts.add_alias(mail, "@example.test", "alice@example.test")
    await server.send(to=tuple(f"user{n}@example.test" for n in range(1000)))
    assert len(await found(mail, alice, Role.INBOX)) == 1
    await server.journal.flush()
    [told] = await trace.find(mail.database, ["user999@example.test"], 5)
    assert len(told.story["recipients"]) == 1000  # type: ignore[arg-type]


@pytest.mark.parametrize("patience", [1.5])
async def test_dns_that_does_not_answer_holds_up_no_mail_for_long(
    mail: Mail, alice: Account, names: NameServer, server: Server
) -> None:
    names.silent |= {"example.net", "mx.example.net", "9.0.0.127.zen.spamhaus.org"}
    await server.send(sender="dave@example.net", helo="mx.example.net")
    [(raw, _)] = await found(mail, alice, Role.INBOX)
    assert b"spf=temperror" in raw
