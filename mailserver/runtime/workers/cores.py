"""How many cores this process may use."""

import math
import os
from pathlib import Path

CPU_LIMIT = Path("/sys/fs/cgroup/cpu.max")  # of the container, cgroup v2


def usable(limit: Path = CPU_LIMIT) -> int:
    """Return the cores that the scheduler and the container leave us, at least one."""
    cores = len(os.sched_getaffinity(0))
    try:
        quota, period = limit.read_text("ascii").split()
        return max(1, min(cores, math.ceil(int(quota) / int(period))))
    except (OSError, ValueError, ZeroDivisionError):  # no cgroup v2, or "max": no limit
        return cores
