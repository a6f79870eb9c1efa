"""The client of resolvers: only the answer to its question counts, whatever else arrives."""

import asyncio
import random
import socket
import struct
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio

from mailserver.config import Dns
from mailserver.dns.client import PORT_USES, Client
from mailserver.dns.message import Response
from mailserver.dns.names import write_name
from mailserver.dns.records import TXT, A, LookupFailed
from tests.name_server import Lie, NameServer


@pytest_asyncio.fixture
async def names() -> AsyncIterator[NameServer]:
    server = NameServer()
    await server.start()
    server.add("a.example", "A", "192.0.2.1")
    yield server
    server.stop()


@pytest_asyncio.fixture
async def other() -> AsyncIterator[NameServer]:
    server = NameServer()
    await server.start()
    server.add("a.example", "A", "192.0.2.2")
    yield server
    server.stop()


# Where nobody answers, it is waited for in full; where another has to answer, for long enough.
SOON, PATIENT = 0.2, 2.0  # seconds


def client(*ports: int, **options: object) -> Client:
    settings = Dns.model_validate({"timeout": 60, "attempts": 1, **options})
    return Client([("127.0.0.1", port) for port in ports], settings, random.Random(1))


async def ask(asking: Client, name: str = "a.example") -> Response[str]:
    return await asking.ask(name, write_name(name), A)


def forged(answer: bytes) -> bytes:
    """Return an answer with another address."""
    assert answer.count(b"\xc0\x00\x02\x01") == 1
    return answer.replace(b"\xc0\x00\x02\x01", b"\xc0\x00\x02\x63")


LIES: dict[str, Lie] = {
    "another id": lambda answer: [
        (int.from_bytes(answer[:2], "big") ^ 1).to_bytes(2, "big") + forged(answer)[2:]
    ],
    "another name": lambda answer: [forged(answer.replace(b"\7", b"\7X", 1)), forged(answer)[:12]],
    "another type": lambda answer: [forged(answer).replace(b"\0\1\0\1", b"\0\x1c\0\1", 1)],
    "no answer": lambda answer: [answer[:2] + b"\1\0" + forged(answer)[4:]],  # QR is not set
    "another opcode": lambda answer: [answer[:2] + b"\xa8\0" + forged(answer)[4:]],
    "no question": lambda answer: [answer[:4] + b"\0\0" + forged(answer)[6:]],
    "cut anywhere": lambda answer: [forged(answer)[:size] for size in range(len(answer) - 12)],
    "octets": lambda answer: [b"", b"x", answer[:2] + b"\xff" * 60, b"\0" * 5000],
    "pointers in a circle": lambda answer: [
        answer[:6] + b"\0\2" + answer[8:-11] + b"\xc0\x2b\0\1\0\1\0\0\0\1\0\4\x7f\0\0\1"
    ],
}


@pytest.mark.parametrize("lie", LIES)
async def test_what_is_no_answer_does_not_end_the_wait(names: NameServer, lie: str) -> None:
    names.lies["a.example"] = LIES[lie]
    response = await ask(client(names.port))
    assert response.records == {"a.example": ["192.0.2.1"]}
    names.silent.add("a.example")
    with pytest.raises(LookupFailed, match="timeout"):
        await ask(client(names.port, timeout=SOON))


async def test_an_answer_from_elsewhere_does_not_count(names: NameServer) -> None:
    names.held.add("a.example")
    asking = asyncio.create_task(ask(client(names.port)))
    answer, peer = await names.waiting()
    with socket.socket(type=socket.SOCK_DGRAM) as elsewhere:
        elsewhere.sendto(forged(answer), peer)
    names.release()
    assert (await asking).records == {"a.example": ["192.0.2.1"]}


async def test_the_case_of_a_name_is_mixed_and_has_to_come_back(names: NameServer) -> None:
    name = "a-name-of-many-letters.example"
    names.add(name, "A", "192.0.2.1")
    names.held.add(name)
    asking = asyncio.create_task(ask(client(names.port), name))
    answer, _ = await names.waiting()
    written = answer[12 : 12 + len(write_name(name))]
    assert written.lower() == write_name(name)
    assert written not in (written.lower(), written.upper())
    names.release()
    assert (await asking).records == {name: ["192.0.2.1"]}
    assert names.by_tcp == 0
    # who guesses all but the case gets nothing by it
    names.lies[name] = lambda answer: [forged(answer[:12] + answer[12:43].swapcase() + answer[43:])]
    assert (await ask(client(names.port), name)).records == {name: ["192.0.2.1"]}
    assert names.by_tcp == 1


async def test_a_resolver_that_forgets_the_case_is_asked_by_tcp(names: NameServer) -> None:
    names.forgets_case = True
    assert (await ask(client(names.port))).records == {"a.example": ["192.0.2.1"]}
    assert names.by_tcp == 1


async def test_what_no_datagram_holds_is_asked_for_by_tcp(names: NameServer) -> None:
    names.add("long.example", "TXT", *(f'"{number:0200}"' for number in range(100)))
    names.cut.add("long.example")
    response = await client(names.port).ask("", write_name("long.example"), TXT)
    assert len(response.records["long.example"]) == 100
    names.silent.add("long.example")  # no more answers by TCP: it closes
    names.lies["long.example"] = lambda answer: [
        answer[:2] + struct.pack("!H", 0x8380) + answer[4:6] + b"\0\0" + answer[8:]
    ]
    with pytest.raises(LookupFailed, match="cannot be asked"):
        await client(names.port).ask("", write_name("long.example"), TXT)


@pytest.mark.parametrize(
    "lie",
    [
        lambda framed: framed[:2] + bytes((framed[2] ^ 1,)) + framed[3:],  # another id
        lambda framed: framed.replace(b"\7", b"\7X", 1),  # another name
        lambda framed: framed[:4] + bytes((framed[4] | 2,)) + framed[5:],  # cut also here
        lambda framed: framed[:20],  # ends early
        lambda framed: b"\xff\xff" + framed[2:],  # ends before its size
        lambda framed: b"\0\0",
        lambda framed: b"",
    ],
)
async def test_by_tcp_too_only_the_answer_counts(
    names: NameServer, lie: Callable[[bytes], bytes]
) -> None:
    names.cut.add("a.example")
    names.tcp_lie = lie
    with pytest.raises(LookupFailed, match="cannot be asked"):
        await ask(client(names.port))
    assert names.by_tcp == 1
    names.tcp_lie = None
    assert (await ask(client(names.port))).records == {"a.example": ["192.0.2.1"]}


async def test_resolvers_are_asked_in_turn(names: NameServer, other: NameServer) -> None:
    asking = client(names.port, other.port, timeout=PATIENT)
    assert (await ask(asking)).records == {"a.example": ["192.0.2.1"]}
    assert other.asked == []
    names.silent.add("a.example")
    assert (await ask(asking)).records == {"a.example": ["192.0.2.2"]}
    # the one that answered last is asked first from now on
    assert (await ask(asking)).records == {"a.example": ["192.0.2.2"]}
    assert len(names.asked) == 2
    other.failing.add("a.example")
    names.silent.clear()
    assert (await ask(asking)).records == {"a.example": ["192.0.2.1"]}


async def test_all_rounds_fail(names: NameServer, other: NameServer) -> None:
    names.failing.add("a.example")
    other.silent.add("a.example")
    with pytest.raises(LookupFailed) as failed:
        await ask(client(names.port, other.port, timeout=PATIENT, attempts=2))
    assert failed.value.reason == "SERVFAIL"
    assert len(names.asked) == len(other.asked) == 2


async def test_a_resolver_that_is_not_there_costs_no_time(names: NameServer) -> None:
    names.stop()
    await names.stopped()
    with pytest.raises(LookupFailed, match="ConnectionRefused"):
        await ask(client(names.port))


async def test_signatures_are_asked_for_only_of_a_resolver_that_is_believed(
    names: NameServer,
) -> None:
    for validating in (False, True):
        await ask(client(names.port, validating=validating))
        assert names.queries[-1].ednsflags == (0x8000 if validating else 0)
        assert names.queries[-1].payload == 1232


async def test_ports_change_and_are_closed(names: NameServer) -> None:
    asking = client(names.port)
    names.held.add("a.example")
    tasks = [asyncio.create_task(ask(asking)) for _ in range(2 * PORT_USES + 1)]
    while len(names.asked) < len(tasks):
        await names.waiting()
    used = {peer for _, peer in names.held_answers}
    assert len(used) == 3
    names.release()
    answers = await asyncio.gather(*tasks)
    assert all(answer.records == {"a.example": ["192.0.2.1"]} for answer in answers)
    for _, port in used:  # whoever binds it now gets it
        with socket.socket(type=socket.SOCK_DGRAM) as free:
            free.bind(("127.0.0.1", port))


async def test_who_gives_up_leaves_nothing_behind(names: NameServer) -> None:
    names.held.add("a.example")
    asking = asyncio.create_task(ask(client(names.port)))
    _, peer = await names.waiting()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    with socket.socket(type=socket.SOCK_DGRAM) as free:
        free.bind(peer)
