"""INPROGRESS: a command that takes long says so, between whole lines (RFC 9585)."""

import re
from typing import Any

import pytest

from mailserver.imap.commands import progress
from mailserver.model import Account

SIGN = re.compile(rb"\* OK \[INPROGRESS \(\"(t\d+)\" (\d+|NIL) (\d+|NIL)\)\] Still at work\r\n")


async def test_signs_of_life(
    servers: Any, connect: Any, alice: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = await connect(await servers.start())
    await client.log_in()
    message = b" {29+}\r\nSubject: a\r\n\r\nneedle in hay\r\n"
    for _ in range(3):
        await client.send(b"a APPEND INBOX" + message * 1000 + b"\r\n")
        assert (await client.until(b"a"))[-1].startswith(b"a OK")
    await client.ask(b"SELECT INBOX")
    monkeypatch.setattr(progress, "INTERVAL", 0)
    said = await client.ask(b"SEARCH BODY needle")
    signs = [found for line in said if (found := SIGN.fullmatch(line))]
    assert [line for line in said if not SIGN.fullmatch(line)] == [
        b"* SEARCH " + b" ".join(b"%d" % number for number in range(1, 3001)) + b"\r\n",
        b"t3 OK SEARCH completed\r\n",
    ]
    assert {found[1] for found in signs} == {b"t3"}
    counted = [(int(found[2]), int(found[3])) for found in signs if found[2] != b"NIL"]
    assert counted
    assert all(done < goal for done, goal in counted)
    # an answer of several buffers is not torn
    word = b"k" * 100
    said = await client.ask(b"STORE 1:* +FLAGS (%b)" % word)
    lines = [line for line in said[:-1] if not SIGN.fullmatch(line)]
    assert len(lines) == 3001
    assert lines[0].startswith(b"* FLAGS (")
    assert lines[1:] == [
        b"* %d FETCH (FLAGS (%b \\Recent))\r\n" % (number, word) for number in range(1, 3001)
    ]
    assert any(map(SIGN.fullmatch, said))
    # nothing is said in FETCH, whose answers are written in pieces
    said = await client.ask(b"FETCH 1:100 (UID BODY.PEEK[])")
    assert not any(map(SIGN.fullmatch, said))


async def test_quick_commands_are_silent(servers: Any, connect: Any, alice: Account) -> None:
    client = await connect(await servers.start())
    await client.log_in()
    await client.ask(b"SELECT INBOX")
    assert await client.ask(b"SEARCH BODY x") == [b"* SEARCH\r\n", b"t3 OK SEARCH completed\r\n"]
