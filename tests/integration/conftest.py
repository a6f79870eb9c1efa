"""What the tests of every protocol need."""

import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
import pytest_asyncio

from mailserver.auth.issuer import Issuer
from mailserver.auth.tokens import Tokens
from mailserver.tls import make_development_ca, server_context
from tests import oidc


@dataclass(frozen=True)
class Tls:
    """A certificate for localhost: what servers and clients need of it."""

    server: ssl.SSLContext
    client: ssl.SSLContext
    ca: Path


@pytest.fixture(scope="session")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    return make_tls(tmp_path_factory.mktemp("tls"))


def make_tls(folder: Path, *, channel_binding: bool = False) -> Tls:
    """Make a certificate authority, and with it a certificate for localhost."""
    files = make_development_ca(folder, ["localhost", "127.0.0.1"], datetime.now(UTC))
    return Tls(
        server_context(files.certificate, files.key, channel_binding=channel_binding),
        ssl.create_default_context(cafile=str(files.ca)),
        files.ca,
    )


@pytest_asyncio.fixture
async def issuer() -> AsyncIterator[oidc.Issuer]:
    """An issuer of access tokens that answers."""
    found = oidc.Issuer()
    await found.start()
    yield found
    await found.stop()


@pytest.fixture
def tokens(issuer: oidc.Issuer) -> Tokens:
    """Who judges its tokens."""
    return Tokens(issuer.config(), Issuer(issuer.config()))
