"""Children: exit codes, signals, logs, locks."""

import asyncio
import json
import os
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from mailserver.runtime.embedded import launch, process
from mailserver.runtime.embedded.process import Child, EmbeddedError, Program, run_to_end
from mailserver.runtime.embedded.user import service_user


def program(tmp_path: Path, code: str) -> Program:
    return Program(
        argv=[sys.executable, "-I", "-S", "-c", code],
        environment={"PATH": os.defpath},
        log=tmp_path / "log",
        death_signal=signal.SIGKILL,
        directory=tmp_path,
    )


async def lock(tmp_path: Path, seconds: float = 0) -> int | None:
    return await process.acquire_lock(tmp_path / "lock", seconds)


async def run(tmp_path: Path, code: str) -> tuple[int, str]:
    held = await lock(tmp_path)
    assert held is not None
    try:
        return await run_to_end(program(tmp_path, code), lock=held)
    finally:
        os.close(held)


async def test_exit_code_and_output(tmp_path: Path) -> None:
    code = "import sys; print('one'); print('two', file=sys.stderr); sys.exit(7)"
    status, output = await run(tmp_path, code)
    assert status == 7
    assert sorted(output.split()) == ["one", "two"]
    assert stat.S_IMODE((tmp_path / "log").stat().st_mode) == 0o600
    _, again = await run(tmp_path, "print('three')")
    assert again == "three"  # only what this child wrote


async def test_a_child_has_its_own_session_and_no_input(tmp_path: Path) -> None:
    code = "import os, sys; print(os.getsid(0) == os.getpid(), sys.stdin.read() == '')"
    assert await run(tmp_path, code) == (0, "True True")


async def test_the_kernel_is_told_to_end_a_child_with_its_parent(tmp_path: Path) -> None:
    code = (
        "import ctypes; value = ctypes.c_int();"
        "ctypes.CDLL(None).prctl(2, ctypes.byref(value), 0, 0, 0); print(value.value)"
    )
    assert await run(tmp_path, code) == (0, str(int(signal.SIGKILL)))


def test_a_child_whose_parent_died_before_that_does_not_start() -> None:
    spec = launch.Spec(
        parent=os.getpid() + 1,  # not ours
        death_signal=signal.SIGKILL,
        user=None,
        needs=[],
        argv=["/bin/echo", "started"],
    )
    argv = [sys.executable, "-I", "-S", launch.__file__, json.dumps(spec)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (127, "")
    assert done.stderr == "cannot start the service: the parent process is gone\n"


async def test_a_program_that_is_not_there_is_a_clear_failure(tmp_path: Path) -> None:
    missing = Program(["/nowhere/x"], {}, tmp_path / "log", signal.SIGKILL, tmp_path)
    held = await lock(tmp_path)
    assert held is not None
    status, output = await run_to_end(missing, lock=held)
    os.close(held)
    assert status == 127
    assert output.startswith("cannot start the service: ")
    assert "Traceback" not in output


IGNORING = (
    "import signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    "print('ready', flush=True); time.sleep(600)"
)


async def ready(child: Child) -> None:
    async with asyncio.timeout(60):
        while "ready" not in child.output():
            await asyncio.sleep(0.01)


async def test_a_child_that_ignores_signals_is_killed(tmp_path: Path) -> None:
    child = Child(program(tmp_path, IGNORING))
    await ready(child)
    assert await child.stop([(signal.SIGTERM, 0.05)]) == -signal.SIGKILL
    assert not child.running
    child.send(signal.SIGTERM)  # harmless afterwards
    assert await child.wait() == -signal.SIGKILL


async def test_cancelling_a_waiter_leaves_the_others(tmp_path: Path) -> None:
    child = Child(program(tmp_path, IGNORING))
    waiters = [asyncio.create_task(child.wait()) for _ in range(2)]
    await ready(child)
    waiters[0].cancel()
    await asyncio.wait(waiters[:1])
    child.send(signal.SIGKILL)
    assert await asyncio.wait_for(waiters[1], 60) == -signal.SIGKILL


async def test_the_lock_is_held_by_the_child_and_its_children(tmp_path: Path) -> None:
    held = await lock(tmp_path)
    assert held is not None
    code = (
        "import os, time; pid = os.fork();"
        "print('ready', pid, flush=True) if pid else None; time.sleep(600)"
    )
    child = Child(program(tmp_path, code), lock=held)
    os.close(held)
    await ready(child)
    grandchild = int(child.output().split()[1])
    assert await lock(tmp_path) is None
    await child.stop(())
    assert await lock(tmp_path) is None
    waiting = asyncio.create_task(lock(tmp_path, 60))
    os.kill(grandchild, signal.SIGKILL)
    taken = await waiting
    assert taken is not None
    os.close(taken)


async def test_only_the_main_thread_may_spawn(tmp_path: Path) -> None:
    failures: list[BaseException] = []

    def spawn() -> None:
        try:
            Child(program(tmp_path, "pass"))
        except RuntimeError as error:
            failures.append(error)

    thread = threading.Thread(target=spawn)
    thread.start()
    thread.join()
    assert len(failures) == 1


def test_a_log_is_cut_in_place_and_keeps_one_older_part(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with path.open("ab") as writer:
        writer.write(b"a" * 1000)
        writer.flush()
        process.trim_log(path)
        writer.write(b"b")
    assert path.read_bytes() == b"b"
    older = tmp_path / "log.1"
    assert older.read_bytes() == b"a" * 1000
    assert stat.S_IMODE(older.stat().st_mode) == 0o600


def test_a_log_is_cut_even_when_the_older_part_cannot_be_kept(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"a" * 10)
    (tmp_path / "log.1").symlink_to(tmp_path / "elsewhere")
    process.trim_log(path)
    assert path.read_bytes() == b""
    assert not (tmp_path / "elsewhere").exists()


async def test_a_log_that_is_a_symbolic_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "log").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        Child(program(tmp_path, "pass"))


def test_processes_are_found_by_their_working_directory(tmp_path: Path) -> None:
    assert process.processes_in(tmp_path) == []
    assert os.getpid() in process.processes_in(Path.cwd())
    assert process.works_in(os.getpid(), Path.cwd())
    assert not process.works_in(2**30, Path.cwd())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root drops privileges")
def test_root_never_runs_a_cluster_of_root(tmp_path: Path) -> None:
    with pytest.raises(EmbeddedError, match="belongs to root"):
        service_user(tmp_path)
    os.chown(tmp_path, 65534, 65534)
    found = service_user(tmp_path)
    assert found is not None
    assert found.uid == 65534
    other = service_user(tmp_path / "none")
    assert other is not None
    assert other.uid != 0
