"""What a server process does with its memory."""

import os
import subprocess
import sys

from mailserver.app.launch import MALLOC

PROGRAM = """
import os
from pathlib import Path
from mailserver.app.launch import give_back

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

blocks = [bytes([1]) * 3000 for _ in range(20_000)]
last = bytes([1]) * 3000  # above all others, so that the heap cannot shrink
del blocks
before = resident()
give_back()
print(before - resident())
"""


def test_memory_of_the_start_is_given_back() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=os.environ | MALLOC, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert int(done.stdout) > 40_000_000
