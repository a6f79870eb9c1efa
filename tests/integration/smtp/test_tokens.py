"""AUTH OAUTHBEARER and XOAUTH2 by Python's smtplib."""

import asyncio
import smtplib

import pytest

from mailserver.auth.tokens import Tokens
from mailserver.model import Account
from tests import oidc
from tests.integration.smtp.conftest import Servers


@pytest.mark.parametrize("mechanism", ["OAUTHBEARER", "XOAUTH2"])
async def test_smtplib_shows_a_token(
    alice: Account, servers: Servers, issuer: oidc.Issuer, tokens: Tokens, mechanism: str
) -> None:
    servers.tokens = tokens
    port = await servers.start("submissions")

    def talk(token: str, login: str) -> int:
        header = f"n,a={login}," if mechanism == "OAUTHBEARER" else f"user={login}"
        answers = iter((f"{header}\x01auth=Bearer {token}\x01\x01", "\x01"))
        with smtplib.SMTP_SSL("localhost", port, context=servers.tls.client, timeout=30) as client:
            client.ehlo()
            assert mechanism in client.esmtp_features["auth"].split()
            return client.auth(mechanism, lambda challenge=None: next(answers))[0]

    assert await asyncio.to_thread(talk, issuer.token(), alice.login) == 235
    for token, login in ((issuer.token(exp=1), alice.login), (issuer.token(), "bob@example.test")):
        with pytest.raises(smtplib.SMTPAuthenticationError) as failure:
            await asyncio.to_thread(talk, token, login)
        assert failure.value.smtp_code == 535


async def test_nothing_is_offered_without_an_issuer(alice: Account, servers: Servers) -> None:
    port = await servers.start("submissions")

    def talk() -> str:
        with smtplib.SMTP_SSL("localhost", port, context=servers.tls.client, timeout=30) as client:
            client.ehlo()
            assert client.docmd("AUTH", "XOAUTH2")[0] == 504
            return client.esmtp_features["auth"]

    assert "OAUTH" not in await asyncio.to_thread(talk)
