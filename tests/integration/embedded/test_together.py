"""Both services of one program: the death of that program, and the durability barrier."""

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop

from mailserver.runtime.embedded.barrier import syncfs
from mailserver.runtime.embedded.postgres import Postgres
from mailserver.runtime.embedded.process import processes_in

Gone = Callable[[list[int], float], list[int]]


@pytest.mark.faults
@pytest.mark.parametrize("place", ["tmp_path", "open_directory"])
def test_a_killed_program_leaves_no_orphans_and_starts_again(
    request: pytest.FixtureRequest, place: str, start_host: Any, gone: Gone
) -> None:
    # With a capability kept and without: the kernel forgets the death signal on some exec's.
    tmp_path: Path = request.getfixturevalue(place)
    data = tmp_path / "postgres" / "data"
    for _ in range(3):
        host = start_host(tmp_path, "postgres", "seaweedfs")
        pids = {host.facts["postgres"], host.facts["seaweedfs"], *processes_in(data)}
        assert len(pids) > 4  # the postmaster has children
        host.process.send_signal(signal.SIGKILL)
        host.process.wait()
        assert gone(sorted(pids), 60) == []
    host = start_host(tmp_path, "postgres", "seaweedfs")
    assert host.end() == 0
    assert processes_in(data) == []


@pytest.mark.faults
def test_a_start_at_once_after_the_kill_waits_for_the_old_ones(
    tmp_path: Path, start_host: Any
) -> None:
    """The new program starts while the old postmaster is still shutting down."""
    host = start_host(tmp_path, "postgres", "seaweedfs")
    for _ in range(3):
        host.process.send_signal(signal.SIGKILL)
        host = start_host(tmp_path, "postgres", "seaweedfs")
    assert host.end() == 0


def test_the_launcher_works_on_uvloop(tmp_path: Path) -> None:
    async def life() -> None:
        server = Postgres(tmp_path / "pg", sync=False)
        await server.start()
        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)
        assert await asyncio.wait_for(server.wait_exit(), 60) == -signal.SIGKILL
        await server.start()
        await server.stop()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(life())


def test_the_barrier_returns_or_raises(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"x" * 1000)
    syncfs(tmp_path)
    with pytest.raises(FileNotFoundError):
        syncfs(tmp_path / "none")
