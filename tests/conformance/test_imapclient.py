"""The live tests of IMAPClient, which come with it."""

import re
import subprocess
import sys
from pathlib import Path

from tests.conformance.conftest import PASSWORD, login
from tests.conformance.expected import LIVE_FAILED, LIVE_SKIPPED
from tests.running import RunningServer

ACCOUNT = 99
PASSES = 46
LIMIT = 600.0  # seconds of all of them
_CLASSES = ("TestGeneral", "TestSocketTimeout", "TestWithUIDs", "TestWithoutUIDs")
_RAN = re.compile(r"^Ran (\d+) tests", re.MULTILINE)
_WRONG = re.compile(r"^(?:ERROR|FAIL): (test_\w+)", re.MULTILINE)
_SKIPPED = re.compile(r"^(test_\w+) .*\.\.\. skipped", re.MULTILINE)


def test_live(server: RunningServer, tmp_path: Path) -> None:
    host, port = server.address("imap")
    (tmp_path / "live.ini").write_text(
        f"[DEFAULT]\nhost = {host}\nport = {port}\nssl = false\n"
        f"username = {login(ACCOUNT)}\npassword = {PASSWORD}\n"
    )
    ran = 0
    failed: set[str] = set()
    skipped: set[str] = set()
    for name in _CLASSES:
        done = subprocess.run(
            [sys.executable, "-m", "imapclient.livetest", tmp_path / "live.ini", "-v", name],
            cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=LIMIT, check=False,
        )  # fmt: skip
        count = _RAN.search(done.stderr)
        assert count, done.stderr
        ran += int(count[1])
        failed |= {f"{name}.{test}" for test in _WRONG.findall(done.stderr)}
        skipped |= {f"{name}.{test}" for test in _SKIPPED.findall(done.stderr)}
    assert failed == set(LIVE_FAILED)
    assert skipped == set(LIVE_SKIPPED)
    assert ran - len(failed) - len(skipped) == PASSES
