import os
from pathlib import Path

import pytest

from mailserver.runtime.workers.cores import usable


@pytest.mark.parametrize(
    ("text", "cores"),
    [("50000 100000", 1), ("100000 100000", 1), ("150000 100000", 2), ("max 100000", None)],
)
def test_a_container_may_use_less_than_the_machine_has(
    tmp_path: Path, text: str, cores: int | None
) -> None:
    limit = tmp_path / "cpu.max"
    limit.write_text(f"{text}\n")
    have = len(os.sched_getaffinity(0))
    assert usable(limit) == (have if cores is None else min(cores, have))


@pytest.mark.parametrize("text", ["", "x y", "1", "100000 0"])
def test_a_limit_that_cannot_be_read_is_none(tmp_path: Path, text: str) -> None:
    limit = tmp_path / "cpu.max"
    limit.write_text(text)
    assert usable(limit) == usable(tmp_path / "missing") == len(os.sched_getaffinity(0))
