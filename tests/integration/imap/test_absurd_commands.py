"""Commands that are broken or absurd: refused in bounded time, and the connection goes on."""

import asyncio
import tracemalloc
import unicodedata
from typing import Any

from mailserver.model import Account
from tests.integration.imap.conftest import serves

MEGABYTE = 1024 * 1024

ENDLESS = [
    b"SEARCH " + b"(" * 10_000 + b"ALL" + b")" * 10_000,
    b"SEARCH " + b"NOT " * 10_000 + b"ALL",
    b"SEARCH " + b"OR " * 10_000 + b"ALL ALL",
    b"SEARCH " + b"OR ALL " * 9_000 + b"ALL",
    b"FETCH 1 " + b"(" * 10_000 + b"UID" + b")" * 10_000,
    b"FETCH 1 BODY[" + b"1." * 10_000 + b"TEXT]",
    b"LIST " + b"(" * 10_000 + b' "" *',
    b'LIST "" (' + b"* " * 10_000 + b"*)",
    b"STATUS INBOX " + b"(" * 10_000,
    b"STORE 1 FLAGS " + b"(" * 10_000,
    b"ID " + b"(" * 10_000,
    b"THREAD REFERENCES UTF-8 " + b"(" * 10_000,
    b"SORT " + b"(" * 10_000 + b" UTF-8 ALL",
    b"ENABLE" + b" X" * 20_000,
    b"GETMETADATA INBOX " + b"(" * 10_000,
    b"APPEND INBOX " + b"(" * 10_000,
    b"APPEND INBOX CATENATE " + b"(" * 10_000,
    b"ESEARCH IN " + b"(" * 10_000 + b" ALL",
    b"UID FETCH " + b"1" * 500_000 + b" FLAGS",
    b"UID FETCH 1" + b":1" * 200_000 + b" FLAGS",
    b"UID FETCH " + b"," * 500_000 + b" FLAGS",
    b"FETCH " + b"1,*,2:*," * 100_000 + b"9 FLAGS",
    b"FETCH " + b",".join(b"%d" % number for number in range(1, 1_000_001)) + b" FLAGS",
]


async def test_endless_nesting_and_sets(servers: Any, connect: Any, alice: Account) -> None:
    port = await servers.start()
    client, other = await connect(port), await connect(port)
    await client.log_in()
    await client.ask(b"SELECT INBOX")
    for command in ENDLESS:
        await client.send(b"a " + command + b"\r\n")
        await other.ask(b"NOOP")  # is served meanwhile
        said = (await client.until(b"a"))[-1]
        good = b"a OK" if command.startswith(b"ENABLE") else b"a BAD"
        assert said.startswith(good), (command[:40], said[:200])
        assert (await client.ask(b"NOOP"))[-1].endswith(b"OK NOOP completed\r\n")


async def test_a_million_uids(servers: Any, connect: Any, deliver: Any, alice: Account) -> None:
    """What one command may name at most: 1 MiB of text, each UID once."""
    for number in range(3):
        await deliver(b"Subject: %d\r\n\r\n" % number)
    port = await servers.start()
    client = await connect(port)
    await client.log_in()
    await client.ask(b"SELECT INBOX")
    scattered = b",".join(b"%d" % uid for uid in range(2, 160_000, 2))
    tracemalloc.start()
    said = await client.ask(b"UID FETCH " + scattered + b",1 UID")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert said[:-1] == [b"* %d FETCH (UID %d)\r\n" % (number, number) for number in (1, 2)]
    assert peak < 64 * MEGABYTE


SCRIPTS = [
    "Αρχεία", "Входящие", "Հայերեն", "עברית", "العربية", "हिन्दी", "தமிழ்", "ไทย", "ქართული",
    "አማርኛ", "日本語", "中文", "한국어", "ᏣᎳᎩ", "ᚠᚢᚦ", "𐌰𐌱𐌲", "👩‍👩‍👧", "Tiếng Việt", "a\u202eb",
    "&", "&-", "~#!'", '"\\"', "%41", "..", "...", "C:\\x", "-", "İı", "ﬁ", "x" * 60,
]  # fmt: skip


async def test_names_of_every_script(servers: Any, connect: Any, alice: Account) -> None:
    port = await servers.start()
    old, new = await connect(port), await connect(port)
    for client in (old, new):
        await client.log_in()
    await new.ask(b"ENABLE IMAP4rev2")
    for name in SCRIPTS:
        normal = unicodedata.normalize("NFC", name)
        quoted = normal.replace("\\", "\\\\").replace('"', '\\"').encode()
        said = await new.ask(b'CREATE "t/%b"' % quoted)
        assert said[-1].split()[1] == b"OK", (name, said)
        listed = await new.ask(b'LIST "t/" "%b"' % quoted)
        assert len(listed) == 2, (name, listed)
        # the other session reads the same name in its own way, and can say it
        listed = await old.ask(b'LIST "t/" *')
        shown = listed[0].partition(b' "/" ')[2].strip()
        shown.decode("ascii")
        assert (await old.ask(b"STATUS %b (MESSAGES)" % shown))[-1].split()[1] == b"OK"
        assert (await old.ask(b"DELETE " + shown))[-1].split()[1] == b"OK", shown
        assert len(await new.ask(b'LIST "t/" *')) == 1


async def test_names_that_cannot_be(servers: Any, connect: Any, alice: Account) -> None:
    port = await servers.start()
    client = await connect(port)
    await client.log_in()
    await client.ask(b"ENABLE UTF8=ACCEPT")
    names = [b"a//b", b"/", b"//", b"a\x01", b"\x7f", b"x" * 300, b"a/" * 30 + b"a", b""]
    for name in (*names, "\u2029".encode(), b"\xed\xa0\x80", b"\xff"):
        for command in (b"CREATE", b"RENAME INBOX", b"SUBSCRIBE", b"SELECT"):
            said = await client.ask(command + b' "' + name + b'"')
            assert said[-1].split()[1] in (b"NO", b"BAD"), (command, name, said)
    assert (await client.ask(b"NOOP"))[-1].endswith(b"OK NOOP completed\r\n")


async def test_literals_that_never_come(servers: Any, connect: Any, alice: Account) -> None:
    """They cost what was sent of them, until the client is let go."""
    port = await servers.start()
    memory, disk = servers.running[0].memory, servers.running[0].disk
    before = memory.free, disk.free
    clients = [await connect(port) for _ in range(20)]
    for client in clients:
        await client.log_in()
        await client.send(b"a APPEND INBOX {16000000}\r\n")
        assert await client.line() == b"+ OK\r\n"
        await client.send(b"x" * 100_000)
    await serves(connect, port)
    assert disk.free >= before[1] - 20 * 100_000
    for client in clients:
        client.writer.transport.abort()
    await asyncio.wait_for(servers.running[0].stop(20), 30)
    assert (memory.free, disk.free) == before


async def test_one_octet_a_segment(servers: Any, connect: Any, alice: Account) -> None:
    port = await servers.start()
    client = await connect(port)
    await client.log_in()
    for octet in b"a APPEND INBOX {4+}\r\na: b\r\nb SELECT INBOX\r\nc SEARCH CHARSET UTF-8 ALL\r\n":
        await client.send(bytes([octet]))
        await asyncio.sleep(0)
    said = await client.until(b"c")
    assert b"* SEARCH 1\r\n" in said
