"""Milters: opendkim as a real one, and one that does what a test says."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from typing import Any

import dkim
import pytest
import pytest_asyncio
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from mailserver.antispam.edits import AddField, ChangeField, ReplaceBody, apply
from mailserver.antispam.evidence import Finding
from mailserver.antispam.verdict import Action
from tests.engine_programs import OpendkimProgram
from tests.integration.engines.conftest import HEADER, Impostor, Make, Pretend, inquiry


@pytest_asyncio.fixture(scope="module")
async def signed(
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[tuple[OpendkimProgram, bytes]]:
    """opendkim, and a message whose signature is good by a key that it knows."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    text = "".join(public.decode().splitlines()[1:-1])
    program = OpendkimProgram(tmp_path_factory.mktemp("opendkim"))
    program.write({"keys": f"s1._domainkey.example.org v=DKIM1; k=rsa; p={text}\n"})
    # simple: not a blank may be lost on the way to the filter
    raw = HEADER.replace(b"Subject: Hello", b"Subject:  Hello\r\n  again") + b"\r\nHello\r\n"
    signature = dkim.sign(
        raw, b"s1", b"example.org", private, canonicalize=(b"simple", b"simple"),
        include_headers=[b"from", b"to", b"subject", b"date", b"message-id"],
    )  # fmt: skip
    await program.start()
    yield program, signature + raw
    await program.stop()


async def test_opendkim_verifies_and_adds_its_field(
    signed: tuple[OpendkimProgram, bytes], make: Make
) -> None:
    program, raw = signed
    engine = make("milter", program.address)
    assert await engine.check() == [(program.address, "")]
    header, _, body = raw.partition(b"\r\n\r\n")
    for _ in range(3):
        found = await engine.judge(inquiry(body, header + b"\r\n"), ())
        assert (found.result, found.demand) == ("pass", None), found.reason
        changed = apply(raw, found.edits)
        assert changed.startswith(b"Authentication-Results: filter.example.test;\r\n\tdkim=pass")
        assert changed.endswith(raw)


async def test_opendkim_refuses_what_was_changed(
    signed: tuple[OpendkimProgram, bytes], make: Make
) -> None:
    program, raw = signed
    header, _, _ = raw.partition(b"\r\n\r\n")
    found = await make("milter", program.address).judge(inquiry(b"!\r\n", header + b"\r\n"), ())
    assert (found.result, found.demand, found.edits) == ("reject", Action.REJECT, ())


def packet(command: bytes, data: bytes = b"") -> bytes:
    return struct.pack(">I", len(data) + 1) + command + data


class Filter:
    """A milter that answers each command as told, others with "continue"."""

    def __init__(
        self, answers: dict[str, list[bytes]], *, version: int = 6, steps: int = 0, actions: int = 0
    ) -> None:
        self.answers = answers
        self.agreed = struct.pack(">III", version, actions, steps)
        self.seen: list[tuple[str, bytes]] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.seen.clear()
        while True:
            (length,) = struct.unpack(">I", await reader.readexactly(4))
            body = await reader.readexactly(length)
            command, data = body[:1].decode(), body[1:]
            self.seen.append((command, data))
            if command == "Q":
                return
            if command == "O":
                writer.write(packet(b"O", self.agreed))
            elif command != "D":
                writer.writelines(self.answer(command, data))

    def answer(self, command: str, data: bytes) -> list[bytes]:
        return self.answers.get(command, [packet(b"c")])

    def told(self, command: str) -> list[bytes]:
        return [data for each, data in self.seen if each == command]


async def asked(
    make: Make, pretend: Pretend, behaviour: Filter, body: bytes = b"Hello\r\n", **settings: Any
) -> Finding:
    listener: Impostor = await pretend(behaviour)
    found = await make("milter", listener.address, **settings).judge(inquiry(body), ())
    await listener.all_gone()
    assert listener.connections == 1
    return found


async def test_everything_is_told(make: Make, pretend: Pretend) -> None:
    quiet = Filter({})
    body = b"x" * 100_000
    found = await asked(make, pretend, quiet, body)
    assert (found.result, found.demand, found.edits) == ("pass", None, ())
    assert quiet.told("C") == [b"client.example.org\x004\0\x00192.0.2.1\0"]
    assert quiet.told("H") == [b"client.example.org\0"]
    assert quiet.told("M") == [b"<carol@example.org>\0"]
    assert quiet.told("R") == [b"<alice@example.test>\0", b"<bob@example.test>\0"]
    assert quiet.told("L")[0] == (
        b"Received\0from client.example.org (client.example.org [192.0.2.1])\n"
        b"\tby mail.example.test; Fri, 27 Nov 2026 01:00:00 +0000\0"
    )
    assert b"".join(quiet.told("B")) == body
    assert b"Mi\0S1\0{mail_addr}\0carol@example.org\0" in quiet.told("D")
    order = [command for command, _ in quiet.seen if command != "D"]
    assert "".join(dict.fromkeys(order)) == "OCHMRTLNBEQ"


async def test_what_a_filter_does_not_want_is_not_told(make: Make, pretend: Pretend) -> None:
    # no connect, helo, mail, rcpt, data; no answer to fields; their leading blanks
    steps = 0x1 | 0x2 | 0x4 | 0x8 | 0x200 | 0x80 | 0x100000
    filter_ = Filter({"L": [], "B": [packet(b"s")]}, steps=steps)
    found = await asked(make, pretend, filter_, b"x" * 200_000)
    assert found.result == "pass"
    assert len(filter_.told("B")) == 1
    assert filter_.told("L")[1] == b"From\0 Carol <carol@example.org>\0"
    assert {command for command, _ in filter_.seen} == {"O", "L", "N", "B", "E", "Q"}


async def test_changes_are_asked_for(make: Make, pretend: Pretend) -> None:
    filter_ = Filter(
        {
            "E": [
                packet(b"p"),
                packet(b"h", b"X-Last\0one\0"),
                packet(b"i", b"\0\0\0\0X-First\0two\n\tlines\0"),
                packet(b"m", b"\0\0\0\1Subject\0other\0"),
                packet(b"m", b"\0\0\0\1To\0\0"),
                packet(b"b", b"new "),
                packet(b"b", b"body\r\n"),
                packet(b"a"),
            ]
        },
        actions=0x13,
    )
    found = await asked(make, pretend, filter_)
    assert (found.result, found.demand) == ("pass", None)
    assert found.edits == (
        AddField(b"X-Last", b"one"),
        AddField(b"X-First", b"two\n\tlines", 0),
        ChangeField(b"Subject", 1, b"other"),
        ChangeField(b"To", 1, b""),
        ReplaceBody(b"new body\r\n"),
    )


@pytest.mark.parametrize(
    ("command", "answers", "result", "demand", "reason"),
    [
        ("C", [packet(b"r")], "reject", Action.REJECT, "refused"),
        ("M", [packet(b"t")], "defer", Action.DEFER, "not now"),
        ("L", [packet(b"a")], "pass", None, "accepted"),
        ("E", [packet(b"d")], "junk", Action.JUNK, "to be discarded; kept as junk"),
        ("E", [packet(b"y", b"550 5.7.1 No\0")], "reject", Action.REJECT, "550 5.7.1 No"),
        ("E", [packet(b"y", b"451 4.7.1 Wait\r\n\0")], "defer", Action.DEFER, "451 4.7.1 Wait"),
        ("E", [packet(b"q", b"odd\0"), packet(b"c")], "quarantine", Action.JUNK, "odd"),
        ("E", [packet(b"h", b"A\0b\0"), packet(b"r")], "reject", Action.REJECT, "refused"),
        ("R", [packet(b"r")], "reject", Action.REJECT, "refused"),
        ("E", [packet(b"y", b"250 Fine\0")], "error", None, None),
        ("E", [packet(b"b", b"x" * 2000)] * 3 + [packet(b"a")], "error", None, None),
        ("E", [packet(b"h", b"A\0b\0")] * 2000, "error", None, None),
        ("E", [packet(b"h", b"A\0b\0c\0")], "error", None, None),
        ("E", [packet(b"m", b"A\0")], "error", None, None),
        ("E", [packet(b"+", b"<eve@example.org>\0")], "error", None, None),
        ("B", [packet(b"h", b"A\0b\0")], "error", None, None),
        ("H", [packet(b"f")], "error", None, None),
    ],
)
async def test_decisions(
    make: Make,
    pretend: Pretend,
    command: str,
    answers: list[bytes],
    result: str,
    demand: Action | None,
    reason: str | None,
) -> None:
    filter_ = Filter({command: answers}, actions=0x33)
    found = await asked(make, pretend, filter_, max_size=1024)
    assert (found.result, found.demand) == (result, demand), found.reason
    assert found.edits == ()
    assert reason is None or found.reason == reason


async def test_one_recipient_that_is_refused_is_not_the_message(
    make: Make, pretend: Pretend
) -> None:
    class Choosy(Filter):
        def answer(self, command: str, data: bytes) -> list[bytes]:
            return [packet(b"r" if (command, data[:4]) == ("R", b"<bob") else b"c")]

    listener = await pretend(Choosy({}))
    found = await make("milter", listener.address).judge(inquiry(), ())
    assert found.result == "pass"


async def test_a_filter_that_ends_with_its_verdict_is_believed(
    make: Make, pretend: Pretend
) -> None:
    class Hasty(Filter):
        async def __call__(
            self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
        ) -> None:
            while True:
                (length,) = struct.unpack(">I", await reader.readexactly(4))
                command = (await reader.readexactly(length))[:1]
                if command == b"O":
                    writer.write(packet(b"O", self.agreed))
                elif command == b"E":
                    break
            linger = struct.pack("ii", 1, 0)  # its end is a reset, which a word of ours meets
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.write(packet(b"r"))

    listener = await pretend(Hasty({}, steps=0x27F))  # it wants to know nothing but the end
    found = await make("milter", listener.address).judge(inquiry(), ())
    assert (found.result, found.demand) == ("reject", Action.REJECT)
