"""The live tests that come with jmaplib, in an environment of their own."""

import os
import subprocess
from pathlib import Path
from xml.etree import ElementTree

from tests.conformance.conftest import PASSWORD, login
from tests.conformance.expected import JMAPLIB
from tests.running import RunningServer

HOME = Path(__file__).parents[2] / ".clients" / "jmaplib"  # made by make
LIMIT = 600.0  # seconds of all tests
USERS = (login(83), login(84))


def test_every_test_comes_to_what_the_table_says(server: RunningServer, tmp_path: Path) -> None:
    host, port = server.address("http")
    report = tmp_path / "report.xml"
    done = subprocess.run(
        [
            HOME / "bin" / "python", "-m", "pytest", "-m", "integration or not integration",
            "-p", "no:cacheprovider", f"--junit-xml={report}", "tests/integration",
        ],
        cwd=HOME, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, timeout=LIMIT, check=False,
        env={
            **os.environ,
            "JMAP_TEST_URL": f"http://{host}:{port}/.well-known/jmap",
            "JMAP_TEST_USER": USERS[0], "JMAP_TEST_PASS": PASSWORD,
            "JMAP_TEST_USER2": USERS[1], "JMAP_TEST_PASS2": PASSWORD,
        },
    )  # fmt: skip
    assert report.is_file(), done.stdout
    came_to = {_name(case): _outcome(case) for case in ElementTree.parse(report).iter("testcase")}
    wrong = {name: outcome for name, outcome in came_to.items() if JMAPLIB.get(name) != outcome}
    assert wrong == {}, done.stdout
    assert set(came_to) == set(JMAPLIB)


def _name(case: ElementTree.Element) -> str:
    group = case.get("classname", "").rpartition("test_live_")[2]
    return f"{group}.{case.get('name')}"


def _outcome(case: ElementTree.Element) -> str:
    if case.find("skipped") is not None:
        return "skipped"
    wrong = case.find("failure") is not None or case.find("error") is not None
    return "failed" if wrong else "passed"
