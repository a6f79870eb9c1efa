"""SMTP through a proxy that names the client."""

import asyncio
import ssl

import pytest

from mailserver.mail.context import Mail
from mailserver.model import Account
from mailserver.networks import Networks
from tests.integration.smtp.conftest import Client, Servers, inbox

HEADER = "PROXY TCP4 192.0.2.1 198.51.100.2 56324 25\r\n"


async def test_the_client_is_the_one_behind_the_proxy(
    mail: Mail, alice: Account, servers: Servers
) -> None:
    port = await servers.start("mx", proxies=Networks("127.0.0.1"))
    client = Client(*await asyncio.open_connection("127.0.0.1", port))
    await client.send(HEADER.encode())
    assert (await client.reply()).startswith("220 ")
    await client.say("EHLO client.example.org")
    assert (await client.say("STARTTLS")).startswith("220")
    await client.writer.start_tls(servers.tls.client, server_hostname="localhost")
    await client.say("EHLO client.example.org")
    await client.say("MAIL FROM:<carol@example.org>")
    await client.say(f"RCPT TO:<{alice.login}>")
    await client.say("DATA")
    assert (await client.say("Subject: proxied\r\n\r\n.")).startswith("250")
    client.close()
    (message,) = await inbox(mail, alice)
    assert b"Received: from client.example.org ([192.0.2.1])\r\n" in message


async def test_implicit_tls_begins_behind_the_header(servers: Servers) -> None:
    port = await servers.start("submissions", proxies=Networks("127.0.0.1"))
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = servers.tls.client.wrap_bio(incoming, outgoing, server_hostname="localhost")
    heard = b""
    said = HEADER.encode()  # in one packet with the beginning of the handshake
    while not heard.endswith(b"\r\n"):
        try:
            heard += client.read(1000)
        except ssl.SSLWantReadError:
            writer.write(said + outgoing.read())
            said = b""
            incoming.write(await asyncio.wait_for(reader.read(65536), 30))
    writer.close()
    assert heard.startswith(b"220 ")


@pytest.mark.parametrize("proxies", ["", "192.0.2.0/24"])
async def test_a_header_from_who_is_no_proxy_is_a_bad_command(
    servers: Servers, proxies: str
) -> None:
    port = await servers.start("mx", proxies=Networks(proxies))
    client = Client(*await asyncio.open_connection("127.0.0.1", port))
    assert (await client.reply()).startswith("220 ")
    assert (await client.say(HEADER.rstrip())).startswith("500 5.5.2")
    client.close()


async def test_a_proxy_without_a_header_gets_no_greeting(servers: Servers) -> None:
    port = await servers.start("mx", proxies=Networks("127.0.0.1"))
    client = Client(*await asyncio.open_connection("127.0.0.1", port))
    await client.send(b"EHLO client.example.org\r\n")
    assert await client.closed()
    client.close()
