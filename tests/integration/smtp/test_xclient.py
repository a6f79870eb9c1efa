"""Relays that say for whom they speak, and clients that do not wait to be greeted."""

import asyncio
import subprocess
from collections.abc import Awaitable, Callable

import pytest

from mailserver.config import Config
from mailserver.mail.context import Mail
from mailserver.model import Account
from mailserver.networks import Networks
from tests.integration.smtp.conftest import Client, Servers, inbox

Connect = Callable[[int], Awaitable[Client]]
OFFER = "XCLIENT NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT"


@pytest.fixture
def config(request: pytest.FixtureRequest) -> Config:
    smtp = {
        "xclient_networks": "127.0.0.0/8",
        "greeting_pause": 0.2,
        **getattr(request, "param", {}),
    }
    return Config.model_validate({"server": {"hostname": "mail.example.test"}, "smtp": smtp})


async def test_a_relay_names_the_client(
    mail: Mail, alice: Account, servers: Servers, connect: Connect
) -> None:
    client = await connect(await servers.start("mx"))
    assert OFFER in await client.say("EHLO relay.example.org")
    greeting = await client.say(
        "XCLIENT NAME=spike.example.org ADDR=192.0.2.7 PROTO=ESMTP HELO=spike.example.org"
    )
    assert greeting == "220 mail.example.test ESMTP"
    # the greeting of the client is known: a relay need not repeat it
    assert (await client.say("MAIL FROM:<carol@example.org>")).startswith("250")
    assert (await client.say("XCLIENT ADDR=192.0.2.8")).startswith("503")
    assert (await client.say(f"RCPT TO:<{alice.login}>")).startswith("250")
    assert (await client.say("DATA")).startswith("354")
    assert (await client.say("Subject: relayed\r\n\r\n.")).startswith("250")
    assert (await client.say("XCLIENT ADDR=IPV6:2001:db8::7 HELO=[UNAVAILABLE]")).startswith("220")
    assert (await client.say("MAIL FROM:<carol@example.org>")).startswith("503")
    assert (await client.say("XCLIENT")).startswith("501")
    (message,) = await inbox(mail, alice)
    assert b"Received: from spike.example.org ([192.0.2.7])\r\n" in message


@pytest.mark.parametrize("config", [{"xclient_networks": "192.0.2.0/24"}], indirect=True)
async def test_nobody_else_may(servers: Servers, connect: Connect) -> None:
    client = await connect(await servers.start("mx"))
    assert "XCLIENT" not in await client.say("EHLO relay.example.org")
    assert (await client.say("XCLIENT ADDR=192.0.2.7")).startswith("550 5.7.0")
    # not even who claims to be in such a network by way of one that is not
    assert (await client.say("XCLIENT ADDR=192.0.2.7")).startswith("550 5.7.0")


async def test_a_relay_says_who_has_logged_in(
    alice: Account, servers: Servers, connect: Connect
) -> None:
    client = await connect(await servers.start("submission"))
    await client.say("EHLO webmail.example.org")
    login = alice.login.replace("@", "+40")
    assert (await client.say("XCLIENT LOGIN=nobody+40example.test")).startswith("501 5.7.8")
    assert (await client.say(f"XCLIENT ADDR=192.0.2.7 LOGIN={login}")).startswith("220")
    await client.say("EHLO browser.example.org")
    assert (await client.say("MAIL FROM:<bob@example.test>")).startswith("550 5.7.1")
    assert (await client.say(f"MAIL FROM:<{alice.login}>")).startswith("250")


async def test_swaks_speaks_xclient(mail: Mail, alice: Account, servers: Servers) -> None:
    port = await servers.start("mx")
    command = ["swaks", "--server", f"127.0.0.1:{port}", "--to", alice.login]
    command += ["--from", "carol@example.org", "--xclient", "ADDR=198.51.100.9 HELO=far.example"]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    (message,) = await inbox(mail, alice)
    assert b"([198.51.100.9])" in message


@pytest.mark.parametrize("version", [1, 2])
async def test_swaks_speaks_the_proxy_protocol(
    mail: Mail, alice: Account, servers: Servers, version: int
) -> None:
    port = await servers.start("mx", proxies=Networks("127.0.0.1"))
    command = ["swaks", "--server", f"127.0.0.1:{port}", "--to", alice.login]
    command += ["--from", "carol@example.org", "--proxy-version", str(version)]
    command += ["--proxy-family", "TCP4" if version == 1 else "AF_INET"]
    command += ["--proxy-source", "192.0.2.44", "--proxy-source-port", "4444"]
    command += ["--proxy-dest", "192.0.2.1", "--proxy-dest-port", "25"]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    (message,) = await inbox(mail, alice)
    assert b"([192.0.2.44])" in message


async def named(port: int, address: str) -> Client:
    """Come from somewhere, as a proxy says."""
    client = Client(*await asyncio.open_connection("127.0.0.1", port))
    await client.send(f"PROXY TCP4 {address} 192.0.2.1 4444 25\r\n".encode())
    return client


async def test_a_stranger_who_speaks_first_is_refused(servers: Servers) -> None:
    port = await servers.start("mx", proxies=Networks("127.0.0.1"))
    loop = asyncio.get_running_loop()
    hasty = await named(port, "8.8.8.8")
    await hasty.send(b"EHLO hasty.example.org\r\n")
    assert await hasty.reply() == "554 5.5.1 Clients wait for the greeting (RFC 5321 section 3.1)"
    assert await hasty.closed()
    began = loop.time()
    patient = await named(port, "8.8.4.4")
    assert (await patient.reply()).startswith("220")
    assert loop.time() - began >= 0.2
    for each in (hasty, patient):
        each.close()


async def test_whose_mail_was_accepted_is_no_stranger(alice: Account, servers: Servers) -> None:
    port = await servers.start("mx", proxies=Networks("127.0.0.1"))
    (server,) = servers.running
    client = await named(port, "8.8.8.8")
    await client.reply()
    for line in ("EHLO c.example.org", "MAIL FROM:<c@example.org>", f"RCPT TO:<{alice.login}>"):
        assert (await client.say(line)).startswith("250")
    await client.say("DATA")
    assert (await client.say("Subject: known\r\n\r\n.")).startswith("250")
    assert server.limits.strangers.includes("8.8.8.8")
    await client.say("QUIT")
    assert await client.closed()
    assert not server.limits.strangers.includes("8.8.8.8")
    assert server.limits.strangers.includes("8.8.4.4")
    client.close()


@pytest.mark.parametrize("config", [{"greeting_pause": 0, "error_pause": 2}], indirect=True)
async def test_a_stranger_who_only_tries_is_slowed_down(servers: Servers) -> None:
    port = await servers.start("mx", proxies=Networks("127.0.0.1"))
    loop = asyncio.get_running_loop()
    client = await named(port, "8.8.8.8")
    await client.reply()
    began = loop.time()
    assert (await client.say("WHAT")).startswith("500")
    assert loop.time() - began < 2
    await client.say("WHAT")
    began = loop.time()
    assert (await client.say("WHAT")).startswith("500")
    assert loop.time() - began >= 2
    client.close()
