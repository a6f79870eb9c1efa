"""AUTH SCRAM-SHA-256 by Python's smtplib."""

import asyncio
import smtplib

import pytest

from mailserver.model import Account
from tests.integration.smtp.conftest import Servers
from tests.scram_client import ScramClient

PASSWORD = "correct horse"


class Answers:
    """What smtplib asks for, one after the other."""

    def __init__(self, client: ScramClient) -> None:
        self._client = client
        self._steps = iter((client.final, client.end))

    def __call__(self, said: bytes | None = None) -> str:
        if said is None:
            return self._client.first().decode()
        return next(self._steps)(said).decode()


async def test_smtplib_proves_a_password(alice: Account, servers: Servers) -> None:
    port = await servers.start("submissions")

    def talk(password: str) -> tuple[int, bytes]:
        with smtplib.SMTP_SSL("localhost", port, context=servers.tls.client, timeout=30) as client:
            client.ehlo()
            return client.auth("SCRAM-SHA-256", Answers(ScramClient(alice.login, password)))

    assert (await asyncio.to_thread(talk, PASSWORD))[0] == 235
    with pytest.raises(smtplib.SMTPAuthenticationError) as failure:
        await asyncio.to_thread(talk, "wrong")
    assert failure.value.smtp_code == 535
