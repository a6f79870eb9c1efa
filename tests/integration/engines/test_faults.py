"""Engines that stall, close, talk nonsense or stop half-way: a finding, in time, and no more."""

import asyncio
from typing import Any

import pytest

from mailserver.antispam.verdict import Action
from tests.integration.engines.conftest import Make, Pretend, close, flood, inquiry, stall
from tests.running import free_port

KINDS = ("spamd", "rspamd", "clamd", "icap", "milter")

HALF = {
    "spamd": b"SPAMD/1.1 0 EX_OK\r\nContent-length: 500\r\nSpam: True ; 9.0 / 5.0\r\n\r\n 9.0 A b",
    "rspamd": b'HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{"score": 9.0, "action": "reje',
    "clamd": b"1: stream: ",
    "icap": b"ICAP/1.0 200 OK\r\nEncapsulated: res-hdr=0, res-body=19\r\n\r\nHTTP/1.0 200 OK\r\n",
    "milter": b"\0\0\0\x0dO\0\0\0\x06\0\0\0\0\0\0\0\0" + b"\0\0\0\x02",
}
GOOD = {
    "spamd": b"SPAMD/1.1 0 EX_OK\r\nContent-length: 0\r\nSpam: False ; 1.0 / 5.0\r\n\r\n",
    "rspamd": b"HTTP/1.1 200 OK\r\nContent-Length: 36\r\nConnection: close\r\n\r\n"
    b'{"score": 1.0, "action":"no action"}',
    "clamd": b"1: stream: OK\0",
    "icap": b"ICAP/1.0 204 Nothing\r\n\r\n",
    # it wants to know nothing but the end
    "milter": b"\0\0\0\x0dO\0\0\0\x06\0\0\0\0\0\0\x02\x7f" + b"\0\0\0\x01c",
}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


async def test_stall_ends_in_time(kind: str, make: Make, pretend: Pretend) -> None:
    engine = make(kind, (await pretend(stall)).address, timeout=0.2)
    async with asyncio.timeout(30):
        found = await engine.judge(inquiry(), ())
    assert (found.result, found.demand, found.symbols) == ("error", None, ())
    assert found.reason.endswith(": no answer in time")


@pytest.mark.parametrize(
    "behaviour",
    [
        close, flood, b"", b"\0" * 100, b"220 mail.example.org ESMTP\r\n", b"{}", b"\xff" * 70000,
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]",
        b"HTTP/1.1 500 Sorry\r\nContent-Length: 0\r\n\r\n",
        b'HTTP/1.1 200 OK\r\nContent-Length: 40\r\n\r\n{"score": "many", "action": "no action"}',
        b"HTTP/1.1 200 OK\r\nContent-Length: 50000\r\n\r\n" + b"[" * 50000,
        b"HTTP/1.1 200 OK\r\nContent-Length: 9000000\r\n\r\n" + b" " * 9000000,
        b"SPAMD/1.1 76 Bad header line: (hello)\r\n\r\n",
        b"SPAMD/1.1 0 EX_OK\r\n\r\n",
        b"SPAMD/1.1 0 EX_OK\r\nContent-length: 0\r\nSpam: True ; nan / 5\r\n\r\n",
        b"ICAP/1.0 200 OK\r\n\r\n", b"ICAP/1.0 500 Sorry\r\n\r\n",
        b"ICAP/1.0 204 OK\r\n" + b"a: b\r\n" * 9999,
        b"ICAP/1.0 200 OK\r\nEncapsulated: res-hdr=0, res-body=1\r\n\r\n"
        b"HTTP/1.0 200 OK\r\n\r\nffffffff\r\nxx",
        b"\0\0\0\x01O", b"\xff\xff\xff\xffO", b"\0\0\0\0",
        b"\0\0\0\x0dO\0\0\0\x09\0\0\0\0\0\0\0\0", b"\0\0\0\x0dO\0\0\0\x06\0\0\1\0\0\0\0\0",
        b"1: stream: \0", b"1: stream: OKAY\0", b"1: nothing FOUND\0", b"INSTREAM: no. ERROR\0",
        b"SPAMD/1.1 0 EX_OK\r\nSpam: True ; 9 / 5\r\n\r\n" + b"x" * 9000000,
    ],
)  # fmt: skip
async def test_nonsense_is_an_error(
    kind: str, behaviour: Any, make: Make, pretend: Pretend
) -> None:
    engine = make(kind, (await pretend(behaviour)).address, timeout=3)
    found = await engine.judge(inquiry(), ())
    assert (found.result, found.demand, found.score) == ("error", None, 0)
    assert found.reason.isprintable()
    assert len(found.reason) < 400
    assert all(problem for _, problem in await engine.check())


async def test_half_an_answer_is_none(kind: str, make: Make, pretend: Pretend) -> None:
    engine = make(kind, (await pretend(HALF[kind])).address, obey=True)
    found = await engine.judge(inquiry(), ())
    assert (found.result, found.demand, found.score) == ("error", None, 0)


async def test_nobody_listens(kind: str, make: Make) -> None:
    address = f"127.0.0.1:{free_port()}"
    engine = make(kind, address)
    assert (await engine.judge(inquiry(), ())).result == "error"
    [(_, problem)] = await engine.check()
    assert problem.startswith(f"no {kind} answers there: {address}: ")


async def test_failure_defers_where_that_is_configured(kind: str, make: Make) -> None:
    engine = make(kind, f"127.0.0.1:{free_port()}", on_failure="defer")
    found = await engine.judge(inquiry(), ())
    assert (found.result, found.demand) == ("error", Action.DEFER)


async def test_large_message_is_not_shown(kind: str, make: Make, pretend: Pretend) -> None:
    nobody = await pretend(close)
    engine = make(kind, nobody.address, max_size=1024, on_failure="defer")
    found = await engine.judge(inquiry(b"x" * 2000), ())
    assert (found.result, found.demand) == ("none", None)
    assert nobody.connections == 0


async def test_next_address_is_asked_and_asked_first_then(
    kind: str, make: Make, pretend: Pretend
) -> None:
    bad, well = await pretend(close), await pretend(GOOD[kind])
    engine = make(kind, f"{bad.address} {well.address}")
    for _ in range(3):
        found = await engine.judge(inquiry(), ())
        assert found.result in ("ham", "clean", "pass")
    # the client of HTTP does not tell whether it was a kept connection that ended: it tries again
    assert bad.connections == (2 if kind == "rspamd" else 1)
    assert well.connections == 3


async def test_an_address_that_stalls_leaves_time_for_the_next(
    make: Make, pretend: Pretend
) -> None:
    bad, well = await pretend(stall), await pretend(GOOD["spamd"])
    engine = make("spamd", f"{bad.address} {well.address}", timeout=6)  # half of it for each
    assert (await engine.judge(inquiry(), ())).result == "ham"
    assert (bad.connections, well.connections) == (1, 1)
