"""JMAPACCESS: who logged in is told where the same mail is to be had by JMAP (RFC 9698)."""

from typing import Any

import pytest

from mailserver.config import Config
from mailserver.model import Account


@pytest.fixture
def config() -> Config:
    return Config.model_validate(
        {
            "imap": {"allow_plaintext_login": True},
            "http": {"public_url": "https://mail.example.test/"},
        }
    )


async def test_get_jmap_access(servers: Any, connect: Any, alice: Account) -> None:
    client = await connect(await servers.start())
    assert b" JMAPACCESS" not in (await client.ask(b"CAPABILITY"))[0]
    assert (await client.ask(b"GETJMAPACCESS"))[-1].startswith(b"t2 BAD")
    await client.log_in()
    assert b" JMAPACCESS" in (await client.ask(b"CAPABILITY"))[0]
    assert await client.ask(b"GETJMAPACCESS") == [
        b'* JMAPACCESS "https://mail.example.test/.well-known/jmap"\r\n',
        b"t5 OK GETJMAPACCESS completed\r\n",
    ]
