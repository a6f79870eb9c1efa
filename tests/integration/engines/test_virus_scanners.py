"""clamd and ICAP scanners: what is found, what is too large, connections that are kept."""

import asyncio
import socket
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mailserver.antispam.engines import clamd as clamd_engine
from mailserver.antispam.engines import icap as icap_engine
from mailserver.antispam.verdict import Action
from tests.engine_programs import VIRUS, ClamdProgram, Program
from tests.integration.engines.conftest import Make, Pretend, inquiry


async def test_clamd_finds_a_virus_and_passes_a_letter(clamd: Program, make: Make) -> None:
    engine = make("clamd", clamd.address)
    assert await engine.check() == [(clamd.address, "")]
    found = await engine.judge(inquiry(VIRUS), ())
    assert (found.result, found.demand) == ("virus", Action.REJECT)
    assert found.reason == "Tests.Letter.UNOFFICIAL"
    found = await engine.judge(inquiry(), ())
    assert (found.result, found.demand, found.score) == ("clean", None, 0)


async def test_virus_goes_to_junk_where_that_is_configured(clamd: Program, make: Make) -> None:
    found = await make("clamd", clamd.address, on_virus="junk").judge(inquiry(VIRUS), ())
    assert (found.result, found.demand) == ("virus", Action.JUNK)


async def test_one_connection_serves_many_messages(clamd: Program, make: Make) -> None:
    engine = make("clamd", clamd.address)
    bodies = [VIRUS, b"a\r\n" * 200000, b"", VIRUS, b"hello\r\n"]
    results = [(await engine.judge(inquiry(body), ())).result for body in bodies]
    assert results == ["virus", "clean", "clean", "virus", "clean"]
    together = await asyncio.gather(*(engine.judge(inquiry(VIRUS), ()) for _ in range(20)))
    assert {each.result for each in together} == {"virus"}


async def test_more_than_clamd_takes_is_not_looked_at(clamd: Program, make: Make) -> None:
    engine = make("clamd", clamd.address, on_failure="defer")
    for size in (1_500_000, 8_000_000):
        found = await engine.judge(inquiry(b"x" * 76 + b"\r\n" + VIRUS + b"y" * size), ())
        assert (found.result, found.demand) == ("none", None)
        assert found.reason.startswith("not looked at: ")
    assert (await engine.judge(inquiry(VIRUS), ())).result == "virus"


class Answered(bytes):
    """A message; who reads it answers and resets the connection just before the second part."""

    listener: socket.socket
    answer: bytes
    part: int  # octets

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, slice) and key.start == self.part:
            peer, _ = self.listener.accept()
            peer.sendall(self.answer)
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            peer.close()
        return super().__getitem__(key)


@pytest.mark.parametrize(
    ("kind", "part", "answer", "result", "demand"),
    [
        ("clamd", clamd_engine.CHUNK, b"INSTREAM size limit exceeded. ERROR\0", "none", None),
        (
            "icap",
            icap_engine.CHUNK,
            b"ICAP/1.0 200 OK\r\nX-Virus-ID: Some.Thing\r\nEncapsulated: null-body=0\r\n\r\n",
            "virus",
            Action.REJECT,
        ),
        (
            "icap",
            icap_engine.CHUNK,
            b"ICAP/1.0 200 OK\r\nEncapsulated: res-hdr=0, res-body=26\r\n\r\n"
            b"HTTP/1.0 403 Forbidden\r\n\r\n2\r\nno\r\n0\r\n\r\n",
            "virus",
            Action.REJECT,
        ),
    ],
)
async def test_answer_before_a_reset_is_read(
    make: Make, kind: str, part: int, answer: bytes, result: str, demand: Action | None
) -> None:
    message = inquiry(b"y" * 1_000_000)
    raw = Answered(message.raw)
    raw.answer, raw.part = answer, part
    with socket.create_server(("127.0.0.1", 0)) as raw.listener:
        engine = make(kind, f"127.0.0.1:{raw.listener.getsockname()[1]}", on_failure="defer")
        found = await engine.judge(replace(message, raw=raw), ())
    assert (found.result, found.demand) == (result, demand)


@pytest.mark.parametrize(
    ("kind", "end", "answer"),
    [
        ("clamd", b"\0\0\0\0", b"1: stream: OK\0"),
        ("icap", b"\r\n0\r\n\r\n", b"ICAP/1.0 204 Nothing\r\n\r\n"),
    ],
)
async def test_a_kept_connection_that_was_reset_is_not_used(
    make: Make, pretend: Pretend, kind: str, end: bytes, answer: bytes
) -> None:
    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(end)
        writer.write(answer)
        linger = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        go_on.clear()
        await go_on.wait()

    go_on = asyncio.Event()
    scanner = await pretend(once)
    engine = make(kind, scanner.address)
    for number in range(1, 4):
        assert (await engine.judge(inquiry(), ())).result == "clean"
        assert scanner.connections == number
        go_on.set()
        await scanner.all_gone()


async def test_clamd_at_a_socket_that_restarts(tmp_path: Path, make: Make) -> None:
    program = ClamdProgram(tmp_path, socket=True)
    await program.start()
    engine = make("clamd", program.address)
    try:
        assert (await engine.judge(inquiry(VIRUS), ())).result == "virus"
        await program.stop()
        [(_, problem)] = await engine.check()
        assert problem.startswith("no clamd answers there: unix:/")
        assert (await engine.judge(inquiry(VIRUS), ())).result == "error"
        await program.start()
        assert (await engine.judge(inquiry(VIRUS), ())).result == "virus"
        await program.stop()
        await program.start()  # the connection that was kept is dead
        assert (await engine.judge(inquiry(VIRUS), ())).result == "virus"
    finally:
        await program.stop()


async def test_icap_finds_a_virus_and_passes_a_letter(icap: Program, make: Make) -> None:
    engine = make("icap", icap.address, service="avscan")
    assert await engine.check() == [(icap.address, "")]
    bodies = [VIRUS, b"hello\r\n", b"", b"a\r\n" * 400000, VIRUS, b"hello\r\n"]
    found = [await engine.judge(inquiry(body), ()) for body in bodies]
    assert [each.result for each in found] == [
        "virus", "clean", "clean", "clean", "virus", "clean",
    ]  # fmt: skip
    assert (found[0].demand, found[0].reason) == (Action.REJECT, "Tests.Letter.UNOFFICIAL")
    together = await asyncio.gather(*(engine.judge(inquiry(VIRUS), ()) for _ in range(10)))
    assert {each.result for each in together} == {"virus"}


async def test_icap_service_that_does_not_exist_is_told(icap: Program, make: Make) -> None:
    [(_, problem)] = await make("icap", icap.address, service="nothing").check()
    assert problem.endswith("ICAP status 404 for the service nothing; is `service` right?")


async def test_icap_server_that_sends_messages_back(make: Make, pretend: Pretend) -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            if head.startswith(b"RESPMOD"):
                break
        await reader.readuntil(b"\r\n\r\n")  # the request
        response = await reader.readuntil(b"\r\n\r\n")
        writer.write(b"ICAP/1.0 200 OK\r\nConnection: close\r\n")
        writer.write(b"Encapsulated: res-hdr=0, res-body=%d\r\n\r\n" % len(response))
        writer.write(response)
        while True:  # it answers while it reads
            size = int(await reader.readline(), 16)
            part = await reader.readexactly(size + 2)
            writer.write(b"%x\r\n" % size + part.replace(b"virus", b"cured"))
            await writer.drain()
            if not size:
                break
        await reader.read()

    engine = make("icap", (await pretend(echo)).address)
    assert (await engine.judge(inquiry(b"x" * 5_000_000), ())).result == "clean"
    found = await engine.judge(inquiry(b"a virus\r\n"), ())
    assert (found.result, found.reason) == ("virus", "changed by the scanner")


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        (b"X-Infection-Found: Type=0; Resolution=2; Threat=Eicar-Test;\r\n", "Eicar-Test"),
        (b"X-Virus-ID: Some.Thing\r\n", "Some.Thing"),
        (b"", "refused by the scanner"),
    ],
)
async def test_icap_server_that_sends_a_page(
    make: Make, pretend: Pretend, head: bytes, reason: str
) -> None:
    page = b"HTTP/1.0 403 Forbidden\r\n\r\n2\r\nno\r\n0\r\n\r\n"
    answer = b"ICAP/1.0 200 OK\r\n" + head + b"Encapsulated: res-hdr=0, res-body=26\r\n\r\n" + page
    found = await make("icap", (await pretend(answer)).address).judge(inquiry(), ())
    assert (found.result, found.reason, found.demand) == ("virus", reason, Action.REJECT)


@pytest.mark.parametrize("kind", ["milter", "spamd", "rspamd", "icap"])
async def test_clamd_as_another_kind_is_refused_in_one_line(
    clamd: Program, make: Make, kind: str
) -> None:
    [(_, problem)] = await make(kind, clamd.address).check()
    assert problem.startswith(f"no {kind} answers there: {clamd.address}: ")
    assert "\n" not in problem
    found = await make(kind, clamd.address, timeout=3).judge(inquiry(), ())
    assert (found.result, found.demand) == ("error", None)
