"""AUTHENTICATE SCRAM-SHA-256 by Python's imaplib."""

import asyncio
import imaplib
from typing import Any

import pytest

from mailserver.model import Account
from tests.scram_client import ScramClient

PASSWORD = "correct horse"


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
