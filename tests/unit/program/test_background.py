import asyncio
import functools
from collections.abc import Awaitable, Callable

import pytest

from mailserver.app import background
from mailserver.app.background import Background, every
from mailserver.app.shield import shielded
from mailserver.errors import Unavailable
from mailserver.metrics import Metrics


@pytest.mark.parametrize(
    ("error", "level"), [(ValueError("no luck"), "ERROR"), (Unavailable("no luck"), "WARNING")]
)
async def test_failed_work_is_counted_logged_and_started_again(
    error: Exception, level: str, caplog: pytest.LogCaptureFixture
) -> None:
    metrics = Metrics("test")
    tasks = Background(metrics)
    rounds: list[int] = []
    recovered = asyncio.Event()

    async def work() -> None:
        rounds.append(len(rounds))
        if len(rounds) < 3:
            raise error
        recovered.set()
        await asyncio.Event().wait()

    tasks.run("mover", work)
    await asyncio.wait_for(recovered.wait(), 30)
    assert 'test_background_failures_total{task="mover"} 2.0' in metrics.render().decode()
    assert [record.levelname for record in caplog.records] == [level, level]
    await asyncio.wait_for(tasks.stop(), 30)
    assert len(rounds) == 3


async def test_work_that_ends_is_not_started_again() -> None:
    tasks = Background(Metrics("test"))
    rounds = []

    async def work() -> None:
        rounds.append(1)

    tasks.run("once", work)
    await asyncio.gather(*[task for task in asyncio.all_tasks() if task.get_name() == "once"])
    assert rounds == [1]
    await tasks.stop()


async def test_a_name_is_for_one_task() -> None:
    tasks = Background(Metrics("test"))

    async def nothing() -> None:
        await asyncio.Event().wait()

    tasks.run("mover", nothing)
    with pytest.raises(ValueError, match="mover"):
        tasks.run("mover", nothing)
    await tasks.stop()


async def test_every_repeats_until_cancelled() -> None:
    rounds = 0
    enough = asyncio.Event()

    async def work() -> None:
        nonlocal rounds
        rounds += 1
        if rounds == 5:
            enough.set()

    task = asyncio.ensure_future(every(0, work)())
    await asyncio.wait_for(enough.wait(), 30)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def never() -> None:
    await asyncio.Event().wait()


async def fails(error: Exception) -> None:
    raise error


@pytest.mark.parametrize(
    ("step", "level"),
    [
        (never, "WARNING"),
        (functools.partial(fails, Unavailable("PostgreSQL is away")), "WARNING"),
        (functools.partial(fails, ValueError("broken")), "ERROR"),
    ],
)
async def test_one_step_of_a_stop_cannot_keep_the_others(
    step: Callable[[], Awaitable[None]], level: str, caplog: pytest.LogCaptureFixture
) -> None:
    await shielded(step(), 0.01, "step")
    assert caplog.records[-1].levelname == level
    assert background.FIRST_PAUSE < background.LONGEST_PAUSE
