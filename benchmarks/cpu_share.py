"""A share of a core for each of several processes, by the cgroup controller `cpu` of Linux, v1."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

CONTROLLER = Path("/sys/fs/cgroup/cpu")
PERIOD = 10_000  # microseconds; short, so that a process that has used its share waits 7 ms at most


def why_not() -> str | None:
    """Return why shares cannot be given on this machine; None when they can."""
    group = CONTROLLER / "mailserver-benchmark-probe"
    try:
        group.mkdir()
    except OSError as error:
        return f"no group can be made in {CONTROLLER}: {error.strerror}"
    try:
        quota = group / "cpu.cfs_quota_us"
        return None if os.access(quota, os.W_OK) else f"{quota} cannot be written"
    finally:
        group.rmdir()


@contextlib.contextmanager
def limited(pids: Sequence[int], share: float) -> Iterator[None]:
    """Give each process, with its threads, so much of a core and no more."""
    groups = [CONTROLLER / f"mailserver-benchmark-{pid}" for pid in pids]
    try:
        for pid, group in zip(pids, groups, strict=True):
            group.mkdir()
            (group / "cpu.cfs_period_us").write_text(str(PERIOD))
            (group / "cpu.cfs_quota_us").write_text(str(round(share * PERIOD)))
            (group / "cgroup.procs").write_text(str(pid))
        yield
    finally:
        for group in groups:
            with contextlib.suppress(FileNotFoundError):
                for left in (group / "cgroup.procs").read_text().split():
                    (CONTROLLER / "cgroup.procs").write_text(left)
                group.rmdir()
