"""Sessions that change one mailbox at once: what each may be told, and when."""

import asyncio
import re

from mailserver.model import Account
from tests.integration.imap.conftest import Client, Connect, Servers

ROUNDS = 60


async def test_select_tells_no_later_expunge(
    servers: Servers, connect: Connect, alice: Account
) -> None:
    """A client knows which message a sequence number is only when SELECT has ended."""
    port = await servers.start()
    writers = [await connect(port) for _ in range(3)]
    reader = await connect(port)
    for client in (*writers, reader):
        await client.log_in()
    await reader.ask(b"ENABLE QRESYNC")
    opened = await reader.ask(b"SELECT INBOX")
    uidvalidity = _code(opened, b"UIDVALIDITY")
    modseq = _code(opened, b"HIGHESTMODSEQ")
    busy = [asyncio.create_task(_come_and_go(writer)) for writer in writers]
    try:
        for _ in range(ROUNDS):
            said = await reader.ask(b"SELECT INBOX (QRESYNC (%d %d))" % (uidvalidity, modseq))
            assert [line for line in said if _tells_of_an_expunge(line)] == []
            modseq = _code(said, b"HIGHESTMODSEQ")
    finally:
        for task in busy:
            task.cancel()
        await asyncio.wait(busy)


def _tells_of_an_expunge(line: bytes) -> bool:
    return line.endswith(b" EXPUNGE\r\n") or (b" VANISHED " in line and b"(EARLIER)" not in line)


def _code(said: list[bytes], name: bytes) -> int:
    found = re.search(rb"\[%b (\d+)\]" % name, b"".join(said))
    assert found
    return int(found[1])


async def _come_and_go(client: Client) -> None:
    await client.ask(b"SELECT INBOX")
    while True:
        await client.ask(b"APPEND INBOX {1+}\r\nx")
        await client.ask(b"STORE 1:* +FLAGS.SILENT (\\Deleted)")
        await client.ask(b"EXPUNGE")
