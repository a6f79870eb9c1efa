"""AUTHENTICATE SCRAM-SHA-256 and SCRAM-SHA-256-PLUS by Python's imaplib."""

import asyncio
import imaplib
import ssl
from typing import Any

import pytest

from mailserver.model import Account
from tests.integration.conftest import Tls, make_tls
from tests.scram_client import PLUS_HEADER, ScramClient, end_point

PASSWORD = "correct horse"


@pytest.fixture(scope="session")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    return make_tls(tmp_path_factory.mktemp("tls"), channel_binding=True)


class Answers:
    """What imaplib asks for, one after the other."""

    def __init__(self, client: ScramClient) -> None:
        self._steps = iter((lambda said: client.first(), client.final, client.end))

    def __call__(self, said: bytes) -> bytes:
        return next(self._steps)(said)


async def test_imaplib_proves_a_password(servers: Any, tls: Any, alice: Account) -> None:
    port = await servers.start(implicit_tls=True)

    def talk(password: str) -> None:
        with imaplib.IMAP4_SSL("localhost", port, ssl_context=tls.client) as client:
            assert "AUTH=SCRAM-SHA-256" in client.capabilities
            client.authenticate("SCRAM-SHA-256", Answers(ScramClient(alice.login, password)))
            assert client.select("INBOX")[0] == "OK"

    await asyncio.to_thread(talk, PASSWORD)
    with pytest.raises(imaplib.IMAP4.error, match="AUTHENTICATIONFAILED"):
        await asyncio.to_thread(talk, "wrong")


@pytest.mark.parametrize("implicit_tls", [True, False])
async def test_a_login_is_bound_to_the_certificate(
    servers: Any, tls: Any, alice: Account, implicit_tls: bool
) -> None:
    port = await servers.start(implicit_tls=implicit_tls)

    def connect() -> imaplib.IMAP4:
        if implicit_tls:
            return imaplib.IMAP4_SSL("localhost", port, ssl_context=tls.client)
        client = imaplib.IMAP4("localhost", port)
        assert "AUTH=SCRAM-SHA-256-PLUS" not in client.capabilities
        client.starttls(tls.client)
        return client

    def talk(spoil: bytes = b"") -> None:
        with connect() as client:
            assert "AUTH=SCRAM-SHA-256-PLUS" in client.capabilities
            assert isinstance(client.sock, ssl.SSLSocket)
            binding = end_point(client.sock) + spoil
            proof = ScramClient(alice.login, PASSWORD, header=PLUS_HEADER, binding=binding)
            client.authenticate("SCRAM-SHA-256-PLUS", Answers(proof))
            assert client.select("INBOX")[0] == "OK"

    def downgraded() -> None:
        with connect() as client:
            told_of_none = ScramClient(alice.login, PASSWORD, header=b"y,,")
            client.authenticate("SCRAM-SHA-256", Answers(told_of_none))

    await asyncio.to_thread(talk)
    with pytest.raises(imaplib.IMAP4.error, match="AUTHENTICATIONFAILED"):
        await asyncio.to_thread(talk, b"!")
    with pytest.raises(imaplib.IMAP4.error, match="AUTHENTICATIONFAILED"):
        await asyncio.to_thread(downgraded)
