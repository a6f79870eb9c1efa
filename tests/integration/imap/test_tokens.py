"""AUTHENTICATE OAUTHBEARER and XOAUTH2 by Python's imaplib."""

import asyncio
import base64
import imaplib
import json
from typing import Any

import pytest

from mailserver.auth.tokens import Tokens
from mailserver.model import Account
from tests import oidc


def oauthbearer(token: str, login: str = "alice@example.test") -> bytes:
    return f"n,a={login},\x01host=localhost\x01port=993\x01auth=Bearer {token}\x01\x01".encode()


def xoauth2(token: str, login: str = "alice@example.test") -> bytes:
    return f"user={login}\x01auth=Bearer {token}\x01\x01".encode()


MESSAGES = {"OAUTHBEARER": oauthbearer, "XOAUTH2": xoauth2}


@pytest.mark.parametrize("mechanism", list(MESSAGES))
async def test_imaplib_shows_a_token(
    servers: Any, tls: Any, alice: Account, issuer: oidc.Issuer, tokens: Tokens, mechanism: str
) -> None:
    servers.tokens = tokens
    port = await servers.start(implicit_tls=True)
    said: list[bytes] = []

    def talk(token: str, login: str) -> None:
        answers = iter((MESSAGES[mechanism](token, login), b"\x01"))

        def answer(challenge: bytes) -> bytes:
            said.append(challenge)
            return next(answers)

        with imaplib.IMAP4_SSL("localhost", port, ssl_context=tls.client) as client:
            assert f"AUTH={mechanism}" in client.capabilities
            client.authenticate(mechanism, answer)
            assert client.select("INBOX")[0] == "OK"

    await asyncio.to_thread(talk, issuer.token(), alice.login)
    assert said == [b""]
    with pytest.raises(imaplib.IMAP4.error, match="AUTHENTICATIONFAILED"):
        await asyncio.to_thread(talk, issuer.token(exp=1), alice.login)
    reason = json.loads(said[-1])
    assert reason["status"] in ("invalid_token", "401")
    assert reason["openid-configuration"] == f"{issuer.url}/.well-known/openid-configuration"
    with pytest.raises(imaplib.IMAP4.error, match="AUTHENTICATIONFAILED"):
        await asyncio.to_thread(talk, issuer.token(), "bob@example.test")


async def test_a_token_that_is_refused(
    servers: Any, connect: Any, alice: Account, issuer: oidc.Issuer, tokens: Tokens
) -> None:
    servers.tokens = tokens
    port = await servers.start()
    client = await connect(port)
    bad = base64.b64encode(oauthbearer("x.y.z"))
    # the client gives up, which RFC 7628 §3.2.3 allows in place of the empty answer
    await client.send(b"a1 AUTHENTICATE OAUTHBEARER " + bad + b"\r\n")
    assert (await client.line()).startswith(b"+ ")
    await client.send(b"*\r\n")
    assert await client.line() == b"a1 BAD Authentication cancelled\r\n"
    # what cannot be read gets no explanation
    said = await client.ask(b"AUTHENTICATE XOAUTH2 " + base64.b64encode(b"user=alice"))
    assert said == [b"t1 NO [AUTHENTICATIONFAILED] Wrong login or password\r\n"]
    good = base64.b64encode(oauthbearer(issuer.token()))
    assert b" OK [CAPABILITY " in (await client.ask(b"AUTHENTICATE OAUTHBEARER " + good))[-1]


async def test_the_issuer_is_away(
    servers: Any, connect: Any, alice: Account, issuer: oidc.Issuer, tokens: Tokens
) -> None:
    servers.tokens = tokens
    port = await servers.start()
    client = await connect(port)
    await issuer.stop()
    token = base64.b64encode(xoauth2(issuer.token()))
    said = await client.ask(b"AUTHENTICATE XOAUTH2 " + token)
    assert said[0].startswith(b"t1 NO [UNAVAILABLE] ")
    await client.log_in()  # passwords are not the issuer's


async def test_nothing_is_offered_without_an_issuer(
    servers: Any, connect: Any, alice: Account
) -> None:
    client = await connect(await servers.start())
    assert b"OAUTH" not in (await client.ask(b"CAPABILITY"))[0]
    said = await client.ask(b"AUTHENTICATE OAUTHBEARER")
    assert said == [b"t2 NO [CANNOT] Unknown authentication mechanism\r\n"]
