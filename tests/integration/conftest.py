"""What the tests of every protocol need."""

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mailserver.tls import make_development_ca, server_context


@dataclass(frozen=True)
class Tls:
    """A certificate for localhost: what servers and clients need of it."""

    server: ssl.SSLContext
    client: ssl.SSLContext
    ca: Path


@pytest.fixture(scope="session")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    files = make_development_ca(
        tmp_path_factory.mktemp("tls"), ["localhost", "127.0.0.1"], datetime.now(UTC)
    )
    return Tls(
        server_context(files.certificate, files.key),
        ssl.create_default_context(cafile=str(files.ca)),
        files.ca,
    )
