"""Engines that stall, close, talk nonsense or stop half-way: a finding, in time, and no more."""

import asyncio
from typing import Any

import pytest

from mailserver.antispam.verdict import Action
from tests.integration.engines.conftest import Make, Pretend, close, flood, inquiry, stall
from tests.running import free_port

KINDS = ("spamd", "rspamd")

HALF = {
    "spamd": b"SPAMD/1.1 0 EX_OK\r\nContent-length: 500\r\nSpam: True ; 9.0 / 5.0\r\n\r\n 9.0 A b",
    "rspamd": b'HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{"score": 9.0, "action": "reje',
}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


async def test_stall_ends_in_time(kind: str, make: Make, pretend: Pretend) -> None:
    engine = make(kind, (await pretend(stall)).address, timeout=0.2)
    async with asyncio.timeout(5):
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
    good = {
        "spamd": b"SPAMD/1.1 0 EX_OK\r\nContent-length: 0\r\nSpam: False ; 1.0 / 5.0\r\n\r\n",
        "rspamd": b"HTTP/1.1 200 OK\r\nContent-Length: 36\r\nConnection: close\r\n\r\n"
        b'{"score": 1.0, "action":"no action"}',
    }
    bad, well = await pretend(stall), await pretend(good[kind])
    engine = make(kind, f"{bad.address} {well.address}", timeout=1)
    for _ in range(3):
        found = await engine.judge(inquiry(), ())
        assert (found.result, found.score) == ("ham", 1)
    assert (bad.connections, well.connections) == (1, 3)
