"""AUTH SCRAM-SHA-256 and SCRAM-SHA-256-PLUS by Python's smtplib."""

import asyncio
import smtplib
import ssl

import pytest

from mailserver.model import Account
from tests.integration.conftest import Tls, make_tls
from tests.integration.smtp.conftest import Servers
from tests.scram_client import PLUS_HEADER, ScramClient, end_point

PASSWORD = "correct horse"


@pytest.fixture(scope="session")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    return make_tls(tmp_path_factory.mktemp("tls"), channel_binding=True)


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


@pytest.mark.parametrize("kind", ["submissions", "submission"])
async def test_a_login_is_bound_to_the_certificate(
    alice: Account, servers: Servers, kind: str
) -> None:
    port = await servers.start(kind)

    def connect() -> smtplib.SMTP:
        if kind == "submissions":
            return smtplib.SMTP_SSL("localhost", port, context=servers.tls.client, timeout=30)
        client = smtplib.SMTP("localhost", port, timeout=30)
        client.starttls(context=servers.tls.client)
        return client

    def talk(spoil: bytes = b"") -> tuple[int, bytes]:
        with connect() as client:
            client.ehlo()
            assert "SCRAM-SHA-256-PLUS" in client.esmtp_features["auth"].split()
            assert isinstance(client.sock, ssl.SSLSocket)
            binding = end_point(client.sock) + spoil
            proof = ScramClient(alice.login, PASSWORD, header=PLUS_HEADER, binding=binding)
            return client.auth("SCRAM-SHA-256-PLUS", Answers(proof))

    assert (await asyncio.to_thread(talk))[0] == 235
    with pytest.raises(smtplib.SMTPAuthenticationError) as failure:
        await asyncio.to_thread(talk, b"!")
    assert failure.value.smtp_code == 535
