"""What a message may be made of, on the wire: dots, line ends, binary parts, lengths."""

import asyncio
import base64
from collections.abc import Awaitable, Callable

import pytest

from mailserver.config import Config
from mailserver.mail.context import Mail
from mailserver.model import Account
from mailserver.smtp.limits import ARRIVING, DISK
from tests.conftest import PASSWORD
from tests.integration.smtp.conftest import Client, Servers, inbox
from tests.integration.smtp.test_delivery import begin

Connect = Callable[[int], Awaitable[Client]]
SMUGGLED = (
    b"MAIL FROM:<x@example.org>\r\nRCPT TO:<alice@example.test>\r\nDATA\r\n\r\nsmuggled\r\n.\r\n"
)
# every way in which other servers were led to see an end where there is none
ENDS = [
    b"\n.\n",
    b"\n.\r\n",
    b"\n.\r",
    b"\r.\r",
    b"\r.\n",
    b"\r.\r\n",
    b"\r\n.\n",
    b"\r\n.\r",
    b"\r\r\n.\n",
    b"\r\n.\r\r\n",
    b"\n\n.\r\n",
    b"\r\n\0.\r\n",
    b"\r\n.\0\r\n",
    b"\r\n\0.\n",
    b"\0\n.\n",
]


@pytest.fixture
def config() -> Config:
    return Config.model_validate({"server": {"hostname": "mail.example.test"}})


async def login(client: Client) -> None:
    """Begin TLS and log in as alice."""
    token = base64.b64encode(f"\0alice@example.test\0{PASSWORD}".encode()).decode()
    await client.say("EHLO client.example.org")
    assert (await client.say(f"AUTH PLAIN {token}")).startswith("235")


async def secure(servers: Servers, kind: str) -> Client:
    """Come by implicit TLS and log in."""
    port = await servers.start(kind)
    streams = await asyncio.open_connection(
        "127.0.0.1", port, ssl=servers.tls.client, server_hostname="localhost"
    )
    client = Client(*streams)
    assert (await client.reply()).startswith("220")
    await login(client)
    return client


@pytest.mark.parametrize("end", ENDS)
async def test_nothing_but_crlf_dot_crlf_ends_a_message_from_elsewhere(
    mail: Mail, alice: Account, servers: Servers, connect: Connect, end: bytes
) -> None:
    client = await connect(await servers.start("mx"))
    await begin(client)
    await client.send(b"Subject: a\r\n\r\nbody" + end + SMUGGLED + b"QUIT\r\n")
    reply = await client.reply()
    bare = end.replace(b"\r\n", b"").strip(b".\0")
    assert reply.startswith("550-5.6.11" if bare else "250"), reply
    assert (await client.reply()).startswith("221")  # all between was data
    found = await inbox(mail, alice)
    assert len(found) == (0 if bare else 1)


@pytest.mark.parametrize("end", ENDS)
async def test_what_a_user_sends_has_no_lone_line_ends_and_no_nul(
    mail: Mail, alice: Account, bob: Account, servers: Servers, end: bytes
) -> None:
    client = await secure(servers, "submissions")
    await client.say("MAIL FROM:<alice@example.test>")
    await client.say("RCPT TO:<bob@example.test>")
    await client.say("DATA")
    body = b"From: alice@example.test\r\nSubject: a\r\n\r\nbody" + end + SMUGGLED
    await client.send(body + b"QUIT\r\n")
    assert (await client.reply()).startswith("250")
    assert (await client.reply()).startswith("221")
    (raw,) = await inbox(mail, bob)
    pairs = raw.count(b"\r\n")
    assert raw.count(b"\r") == raw.count(b"\n") == pairs
    assert b"\0" not in raw
    client.close()


async def test_lone_line_ends_in_chunks_are_refused_too(
    mail: Mail, alice: Account, servers: Servers, connect: Connect
) -> None:
    client = await connect(await servers.start("mx"))
    await begin(client, data=False)
    await client.send(b"BDAT 13\r\nSubject: a\r\n\r" + b"BDAT 8 LAST\r\nbody\n.\r\n")
    assert (await client.reply()).startswith("250 2.6.0")
    assert (await client.reply()).startswith("550-5.6.11")
    await begin(client, data=False)
    await client.send(b"BDAT 13\r\nSubject: a\r\n\r" + b"BDAT 7 LAST\r\n\nbody\r\n")  # a pair
    assert (await client.reply()).startswith("250 2.6.0")
    assert (await client.reply()).startswith("250 2.0.0")


@pytest.mark.parametrize("end", [b"\r", b"\n", b"\r\r"])
async def test_no_lone_line_end_in_a_header_is_a_binary_part(
    mail: Mail, alice: Account, servers: Servers, connect: Connect, end: bytes
) -> None:
    client = await connect(await servers.start("mx"))
    await client.say("EHLO client.example.org")
    await client.say("MAIL FROM:<carol@example.org> BODY=BINARYMIME")
    await client.say("RCPT TO:<alice@example.test>")
    forged = b"Authentication-Results: mail.example.test; dmarc=pass\r\n"
    raw = b"Subject: a" + end + forged + b"\r\nbody\0\r\n"
    await client.send(b"BDAT %d LAST\r\n" % len(raw) + raw)
    assert (await client.reply()).startswith("550-5.6.11")
    assert await inbox(mail, alice) == []


async def test_commands_that_end_with_lf_are_refused(servers: Servers, connect: Connect) -> None:
    client = await connect(await servers.start("mx"))
    await client.send(b"EHLO a.example\nNOOP\r\n")
    assert (await client.reply()).startswith("500 5.5.2 Lines end with CR LF")
    assert (await client.reply()).startswith("250 2.0.0")


BINARY = bytes(range(256)) * 3 + b"\n.\nMAIL FROM:<>\n"
MIXED = (
    b"From: alice@example.test\r\nSubject: binary\r\nMIME-Version: 1.0\r\n"
    b"Content-Type: multipart/mixed; boundary=b\r\nContent-Transfer-Encoding: binary\r\n\r\n"
    b"--b\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
    b"gr\xc3\xbcn\r\n--b\r\nContent-Type: application/octet-stream\r\n"
    b"Content-Transfer-Encoding: binary\r\n\r\n" + BINARY + b"\r\n--b--\r\n"
)


@pytest.mark.parametrize("first", [b"\t; dkim=pass header.d=bank.example\r\n", b"no field\r\n"])
async def test_a_message_without_a_header_gets_none_below_the_trace_fields(
    mail: Mail, alice: Account, servers: Servers, connect: Connect, first: bytes
) -> None:
    client = await connect(await servers.start("mx"))
    await begin(client)
    await client.send(first + b"From: ceo@bank.example\r\nSubject: hidden\r\n\r\nbody\r\n.\r\n")
    assert (await client.reply()).startswith("250")
    (raw,) = await inbox(mail, alice)
    header, _, text = raw.partition(b"\r\n\r\n")
    assert b"bank.example" not in header
    assert text.startswith(first + b"From: ceo@bank.example\r\n")


async def test_binary_parts_arrive_encoded(
    mail: Mail, alice: Account, servers: Servers, connect: Connect
) -> None:
    client = await connect(await servers.start("mx"))
    await begin(client, data=False, parameters=" BODY=BINARYMIME")
    await client.send(b"BDAT %d\r\n" % 200 + MIXED[:200])
    await client.send(b"BDAT %d LAST\r\n" % (len(MIXED) - 200) + MIXED[200:])
    assert (await client.reply()).startswith("250 2.6.0 200")
    assert (await client.reply()).startswith("250 2.0.0")
    (raw,) = await inbox(mail, alice)
    assert raw.count(b"\r") == raw.count(b"\n") == raw.count(b"\r\n")
    assert b"gr\xc3\xbcn\r\n" in raw  # 8 bits are no reason to encode
    encoded = raw.partition(b"Content-Transfer-Encoding: base64\r\n\r\n")[2].partition(b"--b")[0]
    assert base64.b64decode(encoded) == BINARY
    assert b"Content-Transfer-Encoding: 8bit\r\n\r\n--b" in raw
    assert b"binary\r\n\r\n" not in raw


async def test_a_signed_message_with_binary_parts_is_not_sent_on(
    alice: Account, servers: Servers
) -> None:
    client = await secure(servers, "submissions")
    await client.say("MAIL FROM:<alice@example.test> BODY=BINARYMIME")
    await client.say("RCPT TO:<carol@example.org>")
    signed = MIXED.replace(b"multipart/mixed", b"multipart/signed")
    await client.send(b"BDAT %d LAST\r\n" % len(signed) + signed)
    assert (await client.reply()).startswith("554 5.6.3")
    client.close()


async def test_long_lines_and_large_headers_are_taken(
    mail: Mail, alice: Account, servers: Servers, connect: Connect
) -> None:
    client = await connect(await servers.start("mx"))
    await begin(client)
    line = b"X-Long: " + b"y" * 100_000 + b"\r\n"
    header = line * 100 + b"Subject: large\r\n"  # 10 MB
    await client.send(header + b"\r\nbody\r\n.\r\n")
    assert (await client.reply()).startswith("250")
    (raw,) = await inbox(mail, alice)
    assert raw.endswith(header + b"\r\nbody\r\n")


async def test_a_thousand_recipients_and_one_more(
    mail: Mail, alice: Account, servers: Servers, connect: Connect
) -> None:
    client = await connect(await servers.start("mx"))
    assert "LIMITS RCPTMAX=1000" in await client.say("EHLO c.example.org")
    await client.say("MAIL FROM:<carol@example.org>")
    lines = "".join(f"RCPT TO:<alice+{number}@example.test>\r\n" for number in range(1001))
    await client.send(lines.encode())
    replies = [await client.reply() for _ in range(1001)]
    assert all(each.startswith("250") for each in replies[:1000])
    assert replies[1000].startswith("452 4.5.3")
    await client.say("DATA")
    assert (await client.say("Subject: list\r\n\r\n.")).startswith("250")
    assert len(await inbox(mail, alice)) == 1


async def test_many_large_messages_at_once_are_kept_on_disk(
    mail: Mail, alice: Account, servers: Servers, connect: Connect
) -> None:
    port = await servers.start("mx")
    clients = [await connect(port) for _ in range(24)]  # more than stays in memory
    for client in clients:
        await begin(client)
    body = b"Subject: large\r\n\r\n" + b"line of text\r\n" * 150_000
    await asyncio.gather(*(client.send(body) for client in clients))
    room = servers.running[0].limits.room
    async with asyncio.timeout(60):
        while ARRIVING - room.arriving.free + DISK - room.disk.free < 24 * 1_900_000:
            await asyncio.sleep(0.01)
    assert room.disk.free < DISK
    for client in clients:
        await client.send(b".\r\n")
    assert all([(await client.reply()).startswith("250") for client in clients])
    assert len(await inbox(mail, alice)) == 24


@pytest.mark.parametrize(("hops", "code"), [(100, "250"), (101, "554")])
async def test_a_message_that_goes_round_in_circles_ends_here(
    alice: Account, servers: Servers, connect: Connect, hops: int, code: str
) -> None:
    client = await connect(await servers.start("mx"))
    await begin(client)
    received = b"Received: from a by b; Fri, 27 Nov 2026 10:00:00 +0000\r\n" * hops
    body = b"\r\nReceived: what the body says does not count\r\n.\r\n"
    await client.send(received + b"Subject: round\r\n" + body)
    assert (await client.reply()).startswith(code)
