"""What is left of connections that have ended: nothing, without a search for garbage.

What has lived for a while is searched seldom: each connection would be some kB until then.
"""

import asyncio
import gc
import smtplib
import ssl
import weakref
from collections.abc import Iterator

import pytest

from mailserver.model import Account
from tests.conftest import PASSWORD
from tests.integration.conftest import Tls
from tests.integration.smtp.conftest import Servers

ALICE = "alice@example.test"
LETTER = f"From: {ALICE}\r\nSubject: hello\r\n\r\nhello\r\n"


@pytest.fixture
def no_search() -> Iterator[None]:
    """Do without the collector of garbage."""
    gc.disable()
    yield
    gc.enable()


def begun(kind: str, port: int, context: ssl.SSLContext) -> smtplib.SMTP:
    """Use a listener as clients do; return the connection."""
    if kind == "submissions":
        client: smtplib.SMTP = smtplib.SMTP_SSL("127.0.0.1", port, context=context)
    else:
        client = smtplib.SMTP("127.0.0.1", port)
    if kind == "submission":
        client.starttls(context=context)
    if kind != "mx":
        client.login(ALICE, PASSWORD)
    client.sendmail(ALICE, [ALICE], LETTER)
    return client


@pytest.mark.usefixtures("no_search")
@pytest.mark.parametrize("abruptly", [False, True], ids=["quit", "lost"])
@pytest.mark.parametrize("kind", ["mx", "submission", "submissions"])
async def test_a_connection_that_ended_is_gone(
    servers: Servers, tls: Tls, alice: Account, kind: str, abruptly: bool
) -> None:
    port = await servers.start(kind)
    client = await asyncio.to_thread(begun, kind, port, tls.client)
    (connection,) = map(weakref.ref, servers.running[0].open)
    await asyncio.to_thread(client.close if abruptly else client.quit)
    async with asyncio.timeout(30):
        while connection() is not None:
            await asyncio.sleep(0.01)  # the loop forgets what it has called
