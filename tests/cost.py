"""What something costs, on a machine that does other things as well."""

import time
from collections.abc import Callable

ATTEMPTS = 5


def least(run: Callable[[], object], enough: float) -> float:
    """Return the CPU seconds of the cheapest of some runs; one that costs no more is the last.

    A core that is taken away from a virtual machine for a moment counts as work, and so does a
    garbage collection that happens to fall into it: both only ever add.
    """
    costs: list[float] = []
    while len(costs) < ATTEMPTS and min(costs, default=enough + 1) > enough:
        began = time.process_time()
        run()
        costs.append(time.process_time() - began)
    return min(costs)
