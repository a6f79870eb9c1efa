"""The scripts of imaptest, each in a process of its own and with an account of its own."""

import re
from pathlib import Path

import pytest

from tests.conformance.conftest import login
from tests.conformance.expected import SCRIPTS
from tests.conformance.imaptest import Imaptest
from tests.running import RunningServer

LIMIT = 120.0  # seconds of one script; when a mailbox cannot be made it would try for ever
OTHER = 100  # the account of `user2`
_GROUPS = re.compile(r"^1 test groups: (\d+) failed, (\d+) skipped", re.MULTILINE)


def test_every_script_has_a_row(imaptest: Imaptest) -> None:
    assert imaptest.names() == set(SCRIPTS)


@pytest.mark.parametrize("name", SCRIPTS)
def test_script(imaptest: Imaptest, server: RunningServer, name: str, tmp_path: Path) -> None:
    done = imaptest.run(
        server, tmp_path,
        f"user={login(list(SCRIPTS).index(name) + 1)}", f"user2={login(OTHER)}",
        f"mbox={imaptest.scripts / 'default.mbox'}", f"test={imaptest.scripts / name}",
        limit=LIMIT,
    )  # fmt: skip
    found = _GROUPS.search(done.stdout)
    assert found, done.stdout
    failed, skipped = int(found[1]), int(found[2])
    assert failed == 0, done.stdout
    assert bool(skipped) is (SCRIPTS[name] is not True), SCRIPTS[name]
