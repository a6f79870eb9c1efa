"""The conformance suite of the JMAP project, from a checkout outside this repository."""

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mailserver.tls import DevelopmentFiles
from tests.conformance.conftest import PASSWORD, login, share
from tests.conformance.expected import JMAP_SUITE
from tests.conformance.push_relay import PushRelay
from tests.running import RunningServer

LIMIT = 300.0  # seconds of all tests
PRIMARY, SECONDARY = login(81), login(82)


@dataclass(frozen=True)
class Suite:
    """A checkout of jmapio/jmap-test-suite after `npm install && npm run build`."""

    program: Path

    @classmethod
    def found(cls) -> "Suite":
        """Return what `JMAP_TEST_SUITE` names; the test is skipped without it."""
        program = Path(os.environ.get("JMAP_TEST_SUITE", ""), "dist", "cli.js")
        if not program.is_file() or shutil.which("node") is None:
            pytest.skip("set JMAP_TEST_SUITE to a built checkout of jmap-test-suite")
        return cls(program.resolve())

    def run(self, config: dict[str, Any], folder: Path, relay: PushRelay, ca: Path) -> Any:
        """Run it and return its report."""
        (folder / "config.json").write_text(json.dumps(config))
        preload = Path(__file__).with_name("local_relay.mjs")
        done = subprocess.run(
            [
                "node", "--unhandled-rejections=warn", "--import", preload.as_uri(), self.program,
                "-f", "-c", folder / "config.json", "-o", folder / "report.json",
                "--filter", os.environ.get("JMAP_TEST_FILTER", "*"),
            ],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            timeout=LIMIT, check=False, cwd=folder,
            env={**os.environ, "NODE_EXTRA_CA_CERTS": str(ca), "PUSH_RELAY": relay.url},
        )  # fmt: skip
        assert done.returncode in (0, 1), done.stdout
        return json.loads((folder / "report.json").read_text())


@pytest.fixture(scope="module")
def suite() -> Suite:
    """The suite; asked for before the server, which is not started for tests that are skipped."""
    return Suite.found()


def test_every_test_comes_to_what_the_table_says(
    suite: Suite,
    server: RunningServer,
    relay: PushRelay,
    relay_files: DevelopmentFiles,
    tmp_path: Path,
) -> None:
    share(server, SECONDARY, PRIMARY)
    host, port = server.address("http")
    report = suite.run(
        {
            "sessionUrl": f"http://{host}:{port}/.well-known/jmap",
            "users": {
                "primary": {"username": PRIMARY, "password": PASSWORD},
                "secondary": {"username": SECONDARY, "password": PASSWORD},
            },
        },
        tmp_path, relay, relay_files.ca,
    )  # fmt: skip
    came_to = {result["testId"]: result["status"] for result in report["results"]}
    wrong = {
        result["testId"]: (result["status"], result.get("error"))
        for result in report["results"]
        if JMAP_SUITE.get(result["testId"]) != result["status"]
    }
    assert wrong == {}
    assert set(came_to) == set(JMAP_SUITE)
