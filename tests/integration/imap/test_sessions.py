"""What clients see of each other and of deliveries, over sockets."""

import asyncio
import re
import time
from typing import Any

from mailserver.model import Account

PLAIN = b"Subject: plain\r\n\r\nno more than this\r\n"


async def test_idle_is_woken_by_a_delivery(
    servers: Any, connect: Any, deliver: Any, alice: Account
) -> None:
    client = await connect(await servers.start())
    await client.log_in()
    await client.ask(b"SELECT INBOX")
    await client.send(b"a IDLE\r\n")
    assert await client.line() == b"+ idling\r\n"
    await deliver(PLAIN)
    assert await client.line() == b"* 1 EXISTS\r\n"
    assert await client.line() == b"* 1 RECENT\r\n"
    await client.send(b"DONE\r\n")
    assert await client.line() == b"a OK IDLE completed\r\n"


async def test_pipelined_commands_are_answered_in_order(
    servers: Any, connect: Any, deliver: Any, alice: Account
) -> None:
    await deliver(PLAIN)
    client = await connect(await servers.start())
    await client.log_in()
    await client.ask(b"SELECT INBOX")
    await client.send(b"".join(b"p%d NOOP\r\n" % number for number in range(1000)))
    for number in range(1000):
        assert await client.line() == b"p%d OK NOOP completed\r\n" % number
    # cut anywhere, also inside a literal
    command = b"q APPEND INBOX (\\Seen) {37+}\r\n" + PLAIN + b"\r\n"
    for at in range(len(command)):
        await client.send(command[at : at + 1])
    assert (await client.until(b"q"))[-1].startswith(b"q OK [APPENDUID ")


async def test_a_large_message_comes_back_octet_by_octet(
    servers: Any, connect: Any, alice: Account
) -> None:
    raw = b"Subject: large\r\n\r\n" + bytes(range(1, 256)) * 40_000
    client = await connect(await servers.start())
    await client.log_in()
    await client.send(b"a APPEND INBOX {%d}\r\n" % len(raw))
    assert await client.line() == b"+ OK\r\n"
    await client.send(raw + b"\r\n")
    assert (await client.until(b"a"))[-1].startswith(b"a OK [APPENDUID")
    await client.ask(b"SELECT INBOX")
    await client.send(b"b FETCH 1 (RFC822.SIZE BODY.PEEK[])\r\n")
    assert await client.line() == b"* 1 FETCH (RFC822.SIZE %d BODY[] {%d}\r\n" % (
        len(raw),
        len(raw),
    )
    assert await client.reader.readexactly(len(raw)) == raw
    assert await client.line() == b")\r\n"
    assert await client.line() == b"b OK FETCH completed\r\n"


async def test_many_messages_in_chunks(
    servers: Any, connect: Any, deliver: Any, alice: Account
) -> None:
    count = 1203
    await asyncio.gather(*(deliver(b"Subject: %d\r\n\r\nbody\r\n" % n) for n in range(count)))
    client = await connect(await servers.start())
    await client.log_in()
    await client.ask(b"SELECT INBOX")
    for items, lines in (
        (b"(UID ENVELOPE BODYSTRUCTURE)", 1),
        (b"BODY.PEEK[HEADER.FIELDS (SUBJECT)]", 4),
        (b"BODY.PEEK[TEXT]", 3),
        (b"BODY[]", 5),
    ):
        said = await client.ask(b"FETCH 1:* " + items)
        assert said[-1].endswith(b" OK FETCH completed\r\n")
        heads = [line for line in said if line.startswith(b"* ")]
        assert [int(line.split()[1]) for line in heads] == list(range(1, count + 1))
        assert len(said) - 1 == count * lines
    assert (await client.ask(b"SEARCH UNSEEN"))[0] == b"* SEARCH\r\n"
    said = await client.ask(b"SEARCH SUBJECT 1201 BODY body")
    assert len(said) == 2
    assert len(said[0].split()) == 3


async def test_flags_of_a_busy_mailbox_agree(
    servers: Any, connect: Any, deliver: Any, alice: Account
) -> None:
    """Several sessions change and expunge at once; in the end all see the same mailbox."""
    await asyncio.gather(*(deliver(PLAIN) for _ in range(60)))
    port = await servers.start()
    clients = [await connect(port) for _ in range(4)]
    models: list[list[int]] = [[] for _ in clients]  # UIDs by sequence number; 0: not known

    async def work(number: int) -> None:
        client = clients[number]
        await client.log_in()
        model = models[number]
        _apply(model, await client.ask(b"SELECT INBOX"))
        _apply(model, await client.ask(b"UID FETCH 1:* UID"))
        for round_ in range(12):
            position = (number * 7 + round_ * 5) % len(model) + 1 if model else 1
            for command in (
                b"STORE %d +FLAGS (\\Seen k%d)" % (position, number),
                b"STORE %d +FLAGS.SILENT (\\Deleted)" % position,
                b"EXPUNGE" if round_ % 3 == number % 3 else b"NOOP",
                b"APPEND INBOX {37+}\r\n" + PLAIN,
                b"UID SEARCH ALL",
            ):
                _apply(model, await client.ask(command))

    started = time.monotonic()
    await asyncio.gather(*(work(number) for number in range(4)))
    assert time.monotonic() - started < 120
    views = []
    for client, model in zip(clients, models, strict=True):
        _apply(model, await client.ask(b"NOOP"))
        said = await client.ask(b"FETCH 1:* (UID FLAGS)")
        rows = [line.replace(b" \\Recent", b"").replace(b"\\Recent", b"") for line in said[:-1]]
        assert len(rows) == len(model)
        _apply(model, said)
        views.append(sorted(b" ".join(sorted(row.split())) for row in rows))
    assert all(view == views[0] for view in views)


def _apply(model: list[int], said: list[bytes]) -> None:
    """Follow the untagged data as a client does; numbers must always make sense."""
    for line in said:
        words = line.split()
        if words[0] != b"*" or not words[1].isdigit():
            continue
        number = int(words[1])
        if words[2] == b"EXPUNGE":
            assert 1 <= number <= len(model)
            del model[number - 1]
        elif words[2] == b"EXISTS":
            assert number > len(model)
            model += [0] * (number - len(model))
        elif words[2] == b"FETCH":
            assert 1 <= number <= len(model)
            if uid := re.search(rb"UID (\d+)", line):
                assert model[number - 1] in (0, int(uid[1]))
                model[number - 1] = int(uid[1])
