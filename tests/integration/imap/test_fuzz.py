"""Commands that are almost right: each is answered, and nothing in the server fails."""

import logging
import random
import re
from pathlib import Path
from typing import Any

import pytest

from mailserver.model import Account

TRANSCRIPTS = Path(__file__).parents[2] / "transcript" / "imap"
# what ends the session, changes the wire or waits for a line that is no command
_ELSEWHERE = re.compile(
    rb"(LOGOUT|UNAUTHENTICATE|IDLE|DONE|STARTTLS|AUTHENTICATE|COMPRESS|LOGIN)\b", re.IGNORECASE
)
_PIECES = [
    b"(", b")", b'"', b"\\", b"[", b"]", b"<", b">", b"*", b"%", b"$", b":", b",", b" ", b"0",
    b"-1", b"4294967296", b"1:*", b"NIL", b"INBOX", b"\\Seen", b"()", b'""', b"\xc3\xbc", b"\xff",
    b"\0", b"\x7f", b"&", b"&-", b"RETURN", b"UID", b"BODY[]", b"(" * 50, b"9" * 30,
]  # fmt: skip


def _seeds() -> list[bytes]:
    """Return the commands of all transcripts, without tags and without those with literals."""
    seeds = set()
    for path in TRANSCRIPTS.glob("**/*.txt"):
        for line in re.findall(r"^\d*C: \S+ (.+)$", path.read_text(), re.MULTILINE):
            command = line.encode()
            if b"{" not in command and not _ELSEWHERE.match(command):
                seeds.add(command)
    return sorted(seeds)


def _mutated(chance: random.Random, seeds: list[bytes]) -> bytes:
    command = chance.choice(seeds)
    for _ in range(chance.choice([0, 1, 1, 2, 3])):
        at, end = sorted(chance.randrange(len(command) + 1) for _ in range(2))
        kind = chance.randrange(4)
        if kind == 0:
            command = command[:at] + chance.choice(_PIECES) + command[at:]
        elif kind == 1:
            command = command[:at] + command[end:]
        elif kind == 2:
            command = command[:at] + command[at:end] * 2 + command[end:]
        else:
            other = chance.choice(seeds)
            command = command[:at] + other[chance.randrange(len(other)) :]
    return re.sub(rb"[\r\n{]", b"", command)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("enabled", [b"", b"IMAP4rev2", b"UTF8=ACCEPT QRESYNC"])
async def test_almost_commands(
    servers: Any,
    connect: Any,
    deliver: Any,
    alice: Account,
    caplog: pytest.LogCaptureFixture,
    seed: int,
    enabled: bytes,
) -> None:
    caplog.set_level(logging.WARNING)
    await deliver(b"Subject: one\r\n\r\nbody\r\n")
    await deliver(b"From: a@example.org\r\nSubject: two\r\n\r\nbody\r\n", "\\Seen")
    port = await servers.start()
    chance = random.Random(seed)
    seeds = _seeds()
    assert len(seeds) > 300
    client = None
    for number in range(200):
        if client is None or client.writer.is_closing() or number % 40 == 0:
            client = await connect(port)
            await client.log_in()
            if enabled:
                await client.ask(b"ENABLE " + enabled)
            await client.ask(b"SELECT INBOX")
        command = _mutated(chance, seeds)
        if _ELSEWHERE.match(command.strip()):
            continue
        said = await client.ask(command)
        assert re.match(rb"t\d+ (OK|NO|BAD) ", said[-1]), (command, said)
        assert not any(b"SERVERBUG" in line for line in said), (command, said)
        assert (await client.ask(b"NOOP"))[-1].endswith(b" OK NOOP completed\r\n"), command
    assert [record.getMessage() for record in caplog.records if record.levelno > 30] == []
