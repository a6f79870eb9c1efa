"""The supervisor alone, with workers that do as they are told: what it does when they misbehave."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from mailserver.config import Listener
from mailserver.errors import WorkerFailed
from mailserver.runtime.workers import supervisor as module
from mailserver.runtime.workers.channel import Message
from mailserver.runtime.workers.sockets import Sockets
from mailserver.runtime.workers.supervisor import Plan, Supervisor
from tests.running import command_line, descendants

COMMAND = (sys.executable, "-P", str(Path(__file__).with_name("small_worker.py")))
ROOT = Path(__file__).parents[3]


class Scene:
    """A supervisor, and what its workers are told at their start."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.modes: dict[int, str] = {}
        self.sockets = Sockets.open({"smtp": Listener(port=0)}, 3)
        self.supervisor = Supervisor(self.plan())

    def plan(self, count: int = 3, patience: float = 0.0) -> Plan:
        return Plan(COMMAND, count, self.sockets, self.assignment, patience, "m")

    def assignment(self, slot: int) -> Message:
        mode = self.modes.get(slot, "works")
        return {"slot": slot, "mode": mode, "place": str(self.place)}

    def pids(self) -> dict[int, list[int]]:
        """Return the pids of those that were told something, by slot."""
        found: dict[int, list[int]] = {}
        for file in self.place.glob("*.*"):
            if file.suffix != ".new":
                slot, pid = file.name.split(".")
                found.setdefault(int(slot), []).append(int(pid))
        return found

    def duties(self) -> dict[int, list[int]]:
        """Return on whose sockets each worker that lives accepts."""
        found = {}
        for slot, pids in self.pids().items():
            for pid in pids:
                if Path(f"/proc/{pid}/exe").exists():
                    message = json.loads((self.place / f"{slot}.{pid}").read_text())
                    if message["do"] == "serve":
                        found[slot] = message["slots"]
        return found

    def living(self) -> set[int]:
        """Return the pids of all that run, whatever they were told."""
        below = descendants(os.getpid())
        return {pid for pid in below if b"small_worker" in command_line(pid)}

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not holds():
                await asyncio.sleep(0.02)  # files announce nothing


@pytest_asyncio.fixture
async def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scene]:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    made = Scene(tmp_path)
    yield made
    await made.supervisor.stop()
    made.sockets.close()


EACH_ITS_OWN = {0: [0], 1: [1], 2: [2]}


async def test_each_accepts_on_its_own_sockets(scene: Scene) -> None:
    await scene.supervisor.start()
    await scene.until(lambda: scene.duties() == EACH_ITS_OWN)


async def test_the_sockets_of_one_that_died_are_taken_over_until_it_is_back(scene: Scene) -> None:
    await scene.supervisor.start()
    await scene.until(lambda: scene.duties() == EACH_ITS_OWN)
    scene.modes[1] = "crashes"  # and again each time that it is started
    (victim,) = scene.pids()[1]
    os.kill(victim, signal.SIGKILL)
    await scene.until(lambda: scene.duties() == {0: [0, 1], 2: [2]})
    del scene.modes[1]
    await scene.until(lambda: scene.duties() == EACH_ITS_OWN)


async def test_a_start_that_fails_says_why(scene: Scene) -> None:
    scene.modes[1] = "fails"
    with pytest.raises(WorkerFailed, match="no luck") as caught:
        await scene.supervisor.start()
    assert caught.value.code == 3


@pytest.mark.parametrize(
    ("mode", "limit", "text"),
    [
        ("hangs silently", "FIRST_WORD", "worker 1: said nothing within 2 s of its start"),
        ("never ready", "START_TIME", "worker 1: did not become ready within 2 s"),
    ],
)
async def test_a_first_start_that_never_ends_is_given_up(
    scene: Scene,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    mode: str,
    limit: str,
    text: str,
) -> None:
    monkeypatch.setattr(module, "LOOK", 0.05)
    scene.modes[1] = mode
    starting = asyncio.create_task(scene.supervisor.start())
    await scene.until(lambda: scene.duties().keys() == {0, 2})
    monkeypatch.setattr(module, limit, 2.0)  # the others may have taken longer
    async with asyncio.timeout(60):
        with pytest.raises(WorkerFailed, match=text) as caught:
            await starting
    assert caught.value.code == 1
    assert "worker is stuck" in caplog.messages


async def test_a_worker_that_cannot_be_told_what_to_do_is_ended(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    assign = scene.assignment
    scene.supervisor = Supervisor(
        replace(scene.plan(), assignment=lambda slot: {**assign(slot), "no JSON": object()})
    )
    async with asyncio.timeout(60):
        with pytest.raises(
            WorkerFailed, match=r"worker .: not told what to do: .* JSON serializable"
        ):
            await scene.supervisor.start()
    assert "worker not told what to do" in caplog.messages


async def test_an_assignment_that_cannot_be_made_is_tried_again_for_those_that_ended(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    assign, broken = scene.assignment, [False]

    def assignment(slot: int) -> Message:
        if broken[0]:
            broken[0] = False
            raise RuntimeError("no services")
        return assign(slot)

    scene.supervisor = Supervisor(replace(scene.plan(), assignment=assignment))
    await scene.supervisor.start()
    await scene.until(lambda: scene.duties() == EACH_ITS_OWN)
    broken[0] = True
    (victim,) = scene.pids()[1]
    os.kill(victim, signal.SIGKILL)
    await scene.until(lambda: len(scene.pids()[1]) == 2 and scene.duties() == EACH_ITS_OWN)
    assert "worker not started: nothing to tell it" in caplog.messages


async def test_when_a_successor_does_not_start_the_others_go_on(scene: Scene) -> None:
    await scene.supervisor.start()
    await scene.until(lambda: scene.duties() == EACH_ITS_OWN)
    before = scene.pids()
    scene.modes[0] = "fails"
    with pytest.raises(WorkerFailed, match="no luck"):
        await scene.supervisor.replace(scene.plan())
    await scene.until(lambda: scene.duties() == EACH_ITS_OWN)
    assert scene.pids() == before
    del scene.modes[0]
    await scene.supervisor.replace(scene.plan())
    await scene.until(lambda: scene.duties() == EACH_ITS_OWN)
    await scene.until(lambda: all(len(pids) == 2 for pids in scene.pids().values()))


async def test_a_successor_that_never_gets_ready_is_given_up(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    await scene.supervisor.start()
    scene.modes[0] = "never ready"
    monkeypatch.setattr(module, "START_TIME", 1.0)
    with pytest.raises(WorkerFailed, match="does not become ready"):
        await scene.supervisor.replace(scene.plan())
    await scene.until(lambda: scene.duties() == EACH_ITS_OWN)


async def test_a_successor_that_hangs_at_its_start_is_killed(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    await scene.supervisor.start()
    await scene.until(lambda: scene.duties() == EACH_ITS_OWN)
    before = scene.living()
    assert len(before) == 3
    scene.modes[0] = "hangs"
    monkeypatch.setattr(module, "START_TIME", 5.0)
    monkeypatch.setattr(module, "LEAVE_TIME", 0.5)
    with pytest.raises(WorkerFailed, match="does not become ready"):
        await scene.supervisor.replace(scene.plan(patience=3600.0))
    await scene.until(lambda: scene.living() == before)


async def test_a_restart_that_hangs_is_tried_again(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    await scene.supervisor.start()
    await scene.until(lambda: scene.duties() == EACH_ITS_OWN)
    scene.modes[0] = "hangs"
    monkeypatch.setattr(module, "START_TIME", 5.0)
    monkeypatch.setattr(module, "LEAVE_TIME", 0.5)
    (victim,) = scene.pids()[0]
    os.kill(victim, signal.SIGKILL)
    await scene.until(lambda: len(scene.pids()[0]) > 1)
    del scene.modes[0]
    await scene.until(lambda: scene.duties() == EACH_ITS_OWN)


async def test_a_worker_that_is_stuck_is_replaced(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOK", 0.05)
    monkeypatch.setattr(module, "SILENCE", 60.0)
    scene.modes[2] = "silent"
    await scene.supervisor.start()
    monkeypatch.setattr(module, "SILENCE", 3.0)
    del scene.modes[2]
    await scene.until(lambda: 2 in scene.pids() and 2 in scene.duties())


async def test_a_worker_that_talks_nonsense_is_replaced(scene: Scene) -> None:
    scene.modes[1] = "talks nonsense"
    await scene.supervisor.start()
    await scene.until(lambda: 1 not in scene.duties() and len(scene.duties()) == 2)
    del scene.modes[1]
    await scene.until(lambda: scene.duties() == EACH_ITS_OWN)


async def test_fewer_workers_serve_all_the_sockets(scene: Scene) -> None:
    await scene.supervisor.start()
    await scene.supervisor.replace(scene.plan(count=1))
    await scene.until(lambda: scene.duties() == {0: [0, 1, 2]})
    await scene.supervisor.replace(scene.plan(count=2))
    await scene.until(lambda: scene.duties() == {0: [0, 2], 1: [1]})


async def test_one_that_ignores_a_stop_is_killed(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LEAVE_TIME", 0.5)
    scene.modes[0] = "stubborn"
    await scene.supervisor.start()
    await scene.until(lambda: scene.duties() == EACH_ITS_OWN)
    await scene.supervisor.stop()
    for pids in scene.pids().values():
        for pid in pids:
            assert not Path(f"/proc/{pid}").exists()
