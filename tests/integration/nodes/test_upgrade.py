"""The version before and this one on one database, under load: the upgrade that operators do.

The version before is the program as it was before the newest migration, out of the repository.
"""

import io
import json
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from alembic.script import ScriptDirectory

from mailserver.runtime.embedded.postgres import Postgres
from mailserver.runtime.embedded.seaweedfs import SeaweedFS
from mailserver.storage import migrate
from tests.nodes import Installation, Node

ROOT = Path(__file__).parents[3]


def git(*arguments: str) -> bytes:
    done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"no history of the program here: {done.stderr.decode()[:200]}")
    return done.stdout


@pytest.fixture
def before(tmp_path: Path) -> Path:
    """The folder of the version before: the last one without the newest migration."""
    (newest,) = (ROOT / "migrations" / "versions").glob(f"{migrate.newest()}_*.py")
    name = str(newest.relative_to(ROOT))
    added = git("log", "--format=%H", "-1", "--diff-filter=A", "--", name).decode().strip()
    if not added:
        pytest.skip("the newest migration is not in the history yet")
    for commit in git("log", "--format=%H", f"{added}~1", "-20").decode().split():
        folder = tmp_path / commit[:8]
        with tarfile.open(fileobj=io.BytesIO(git("archive", commit))) as archive:
            archive.extractall(folder, filter="data")
        numbers = [path.name[:4] for path in (folder / "migrations/versions").glob("[0-9]*.py")]
        # between two commits that belong together the chain may be in pieces
        whole = len(set(numbers)) == len(numbers) and max(numbers) < migrate.newest()
        if whole and len(ScriptDirectory(str(folder / "migrations")).get_heads()) == 1:
            return folder
    pytest.skip("no version before in the last commits")


@dataclass
class Load:
    """Deliveries to nodes in turns, and changes of what is there, until `ends`."""

    nodes: list[Node]
    sent: list[str] = field(default_factory=list)
    changed: int = 0
    failures: list[str] = field(default_factory=list)
    ends: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def _deliver(self) -> None:
        number = 0
        while not self.ends.is_set():
            subject, nodes = f"number {number}", self.nodes  # which may be others at any moment
            try:
                nodes[number % len(nodes)].send(subject)
                self.sent.append(subject)
            except Exception as error:
                self.failures.append(repr(error))
            number += 1

    def _change(self) -> None:
        while not self.ends.is_set():
            nodes = self.nodes
            try:
                with nodes[self.changed % len(nodes)].mailbox("bob@example.test") as box:
                    box.append("INBOX", "", "", b"Subject: kept\r\n\r\nkept\r\n")
                    assert box.store("1:*", "+FLAGS", r"(\Seen)")[0] == "OK"
                self.changed += 1
            except Exception as error:
                self.failures.append(repr(error))

    def __enter__(self) -> "Load":
        self._threads = [threading.Thread(target=run) for run in (self._deliver, self._change)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ends.set()
        for thread in self._threads:
            thread.join()

    def goes_on(self) -> None:
        """Wait until some more was done."""
        sent, changed = len(self.sent) + 5, self.changed + 2
        pause = threading.Event()
        for _ in range(3000):
            if (len(self.sent) >= sent and self.changed >= changed) or self.failures:
                break
            pause.wait(0.02)  # nothing announces it
        assert self.failures == []


@pytest.fixture
def old(before: Path, tmp_path: Path, empty_database: str, seaweedfs: SeaweedFS) -> Iterator[Node]:
    """A node of the version before, on a schema of its own."""
    installation = Installation.make(tmp_path, empty_database, seaweedfs, PYTHONPATH=str(before))
    installation.populate("alice", "bob")
    node = Node(installation, "old")
    node.start()
    yield node
    node.close()


def test_the_version_before_goes_on_while_this_one_takes_over(
    old: Node, tmp_path: Path, postgres: Postgres
) -> None:
    theirs = old.installation
    ours = Installation(theirs.folder, {**theirs.values, "PYTHONPATH": str(ROOT)}, theirs.ca)
    new = Node(ours, "new")
    load = Load([old])
    with load:
        load.goes_on()
        steps = json.loads(ours.command("migrate", "--plan", "--json"))
        assert steps[-1]["version"] == migrate.newest()
        load.goes_on()  # a plan changes nothing
        assert json.loads(ours.command("migrate", "--plan", "--json")) == steps
        ours.command("migrate")
        load.goes_on()  # the old program on the new schema
        try:
            new.start()
            load.nodes = [old, new]
            load.goes_on()  # both
            again = Node(theirs, "again")  # and the old one may still be started
            again.start()
            load.nodes = [old, new, again]
            load.goes_on()
            load.nodes = [new]
            load.goes_on()
            assert again.stop() == 0
            assert old.stop() == 0
            load.goes_on()
        finally:
            load.ends.set()
    assert load.failures == []
    with new.mailbox() as client:
        assert len(client.search(None, "ALL")[1][0].split()) == len(load.sent)
    with new.mailbox("bob@example.test") as client:
        assert len(client.search(None, "SEEN")[1][0].split()) == load.changed
    assert json.loads(ours.command("fsck", "--json", "--contents"))["differences"] == []
    assert new.stop() == 0
