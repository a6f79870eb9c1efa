"""The supervisor, with a service that is a variable."""

import asyncio
import itertools

import pytest

from mailserver.errors import Unavailable
from mailserver.runtime.embedded.supervise import keep_running


class Variable:
    """A service that ends when told and starts as its list of outcomes says."""

    def __init__(self, outcomes: list[bool]) -> None:
        self.name = "variable"
        self.wanted = True
        self.outcomes = outcomes
        self.starts: list[float] = []
        self.end: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.restarted = asyncio.Event()

    async def start(self) -> None:
        self.starts.append(asyncio.get_running_loop().time())
        if not self.outcomes.pop(0):
            raise Unavailable("not yet")
        self.end = asyncio.get_running_loop().create_future()

    async def wait_exit(self) -> int:
        return await self.end

    async def on_restart(self) -> None:
        self.restarted.set()


async def test_it_starts_again_with_growing_pauses() -> None:
    service = Variable([False, False, False, True])
    begin = asyncio.get_running_loop().time()
    task = asyncio.create_task(keep_running(service, service.on_restart, first=0.01, longest=0.03))
    service.end.set_result(-9)
    await asyncio.wait_for(service.restarted.wait(), 30)
    moments = [begin, *service.starts]
    pauses = [after - before for before, after in itertools.pairwise(moments)]
    assert len(pauses) == 4
    for pause, least in zip(pauses, (0.01, 0.02, 0.03, 0.03), strict=True):
        assert pause >= least - 0.002
    service.wanted = False
    service.end.set_result(0)
    await asyncio.wait_for(task, 30)


async def test_a_stop_on_purpose_ends_it() -> None:
    service = Variable([])
    task = asyncio.create_task(keep_running(service, service.on_restart))
    service.wanted = False
    service.end.set_result(0)
    await asyncio.wait_for(task, 30)
    assert service.starts == []
    assert not service.restarted.is_set()


class StoppedInThePause(Variable):
    async def wait_exit(self) -> int:
        asyncio.get_running_loop().call_soon(setattr, self, "wanted", False)
        return 1


async def test_a_stop_while_it_waits_to_start_again_ends_it() -> None:
    service = StoppedInThePause([])
    await asyncio.wait_for(keep_running(service, service.on_restart, first=0.01), 30)
    assert service.starts == []
    assert not service.restarted.is_set()


async def test_a_mistake_in_the_program_is_not_retried() -> None:
    service = Variable([True])
    service.outcomes.clear()  # start() now raises IndexError
    service.end.set_result(1)
    with pytest.raises(IndexError):
        await asyncio.wait_for(keep_running(service, service.on_restart, first=0.001), 30)
