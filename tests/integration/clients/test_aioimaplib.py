"""aioimaplib: several connections of one event loop, one of them in IDLE."""

import asyncio

from aioimaplib import IMAP4_SSL

from mailserver.mail.context import Mail
from mailserver.model import Account
from tests.integration.clients import account as accounts
from tests.integration.clients.conftest import Served
from tests.integration.conftest import Tls


async def _connect(server: Served, tls: Tls) -> IMAP4_SSL:
    client = IMAP4_SSL("localhost", server.imaps, ssl_context=tls.client, timeout=60)
    await client.wait_hello_from_server()
    assert (await client.login(accounts.LOGIN, accounts.PASSWORD)).result == "OK"
    assert (await client.select("INBOX")).result == "OK"
    return client


async def test_aioimaplib(server: Served, mail: Mail, tls: Tls, filled: Account) -> None:
    client = await _connect(server, tls)
    assert client.has_capability("UIDPLUS")
    found = await client.uid_search("FLAGGED SUBJECT message")
    assert found.lines[0] == b"3 7 11"
    fetched = await client.uid("fetch", "3", "(FLAGS BODY.PEEK[])")
    raw = (await accounts.contents(mail, filled, "INBOX"))[2].raw
    assert bytes(fetched.lines[1]).replace(b"\r\n", b"\n") == raw
    assert (await client.uid("store", "1:2", "+FLAGS (Mine)")).result == "OK"
    assert (await client.uid("copy", "1", "Archive")).result == "OK"
    assert (await client.uid("move", "2", "Archive")).result == "OK"
    added = accounts.message("by aioimaplib")
    assert (await client.append(added, "Archive", "\\Seen")).result == "OK"
    assert (await client.logout()).result == "OK"
    archived = await accounts.contents(mail, filled, "Archive")
    assert [each.flags for each in archived] == [{"Mine"}, {"\\Seen", "Mine"}, {"\\Seen"}]
    assert archived[2].raw == accounts.unmarked(added)
    assert server.answered("no") == {}


async def test_aioimaplib_is_told_what_another_connection_does(
    server: Served, tls: Tls, filled: Account
) -> None:
    reader, writer = await _connect(server, tls), await _connect(server, tls)
    idle = await reader.idle_start(timeout=60)
    await writer.uid("store", "2", "+FLAGS (\\Deleted)")
    told = await asyncio.wait_for(reader.wait_server_push(), 60)
    assert told == [b"2 FETCH (UID 2 FLAGS (\\Seen \\Deleted \\Recent))"]
    await writer.expunge()
    assert await asyncio.wait_for(reader.wait_server_push(), 60) == [b"2 EXPUNGE"]
    reader.idle_done()
    await asyncio.wait_for(idle, 60)
    for client in (reader, writer):
        await client.logout()
