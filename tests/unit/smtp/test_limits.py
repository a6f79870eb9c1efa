"""Room for connections and memory for messages."""

import asyncio

import pytest

from mailserver.mail.memory import Memory
from mailserver.smtp.limits import Connections


def test_connections_are_counted_by_network() -> None:
    room = Connections(3, 2)
    assert room.enter("192.0.2.1")
    assert room.enter("192.0.2.1")
    assert not room.enter("192.0.2.1")
    assert room.enter("2001:db8::1")
    assert not room.enter("198.51.100.1")
    room.leave("192.0.2.1")
    assert room.enter("198.51.100.1")
    for peer in ("192.0.2.1", "2001:db8::2", "198.51.100.1"):
        room.leave(peer)
    assert [room.enter("2001:db8::9"), room.enter("2001:db8::8")] == [True, True]
    assert not room.enter("2001:db8::7")  # the same /64


async def test_memory_is_given_in_order() -> None:
    memory = Memory(10)
    assert await memory.take(8, 1)
    order: list[str] = []

    async def take(name: str, size: int) -> None:
        assert await memory.take(size, 10)
        order.append(name)

    large = asyncio.create_task(take("large", 9))
    await asyncio.sleep(0)
    small = asyncio.create_task(take("small", 1))  # would fit, but may not overtake
    await asyncio.sleep(0)
    assert order == []
    memory.give(8)
    await asyncio.gather(large, small)
    assert order == ["large", "small"]
    assert memory.free == 0


async def test_memory_that_does_not_come_is_not_taken() -> None:
    memory = Memory(10)
    assert await memory.take(10, 1)
    behind = asyncio.create_task(memory.take(20, 10))
    await asyncio.sleep(0)
    assert not await memory.take(5, 0.01)
    behind.cancel()
    await asyncio.gather(behind, return_exceptions=True)
    memory.give(10)
    assert memory.free == 10
    assert await memory.take(10, 0.01)


async def test_memory_of_who_is_cut_while_being_served_comes_back() -> None:
    memory = Memory(10)
    assert await memory.take(10, 1)
    cut = asyncio.create_task(memory.take(10, 10))
    await asyncio.sleep(0)
    memory.give(10)  # serves the task, which has not run since
    cut.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cut
    assert memory.free == 10
