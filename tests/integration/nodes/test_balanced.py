"""Two servers behind a balancer: one is restarted, one is killed, and clients go on."""

import asyncio
import contextlib
import imaplib
import os
import signal
import smtplib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from mailserver.runtime.embedded.seaweedfs import SeaweedFS
from tests.balancer import Backend, balancing
from tests.nodes import LISTENERS, Installation, Node, nodes
from tests.running import descendants, free_port

DELAY = "MAILSERVER_SERVER__STOP_DELAY"


def places() -> dict[str, str]:
    """Return ports that nobody takes while a node is away, as environment variables."""
    return {f"MAILSERVER_LISTENERS__{name.upper()}__PORT": str(free_port()) for name in LISTENERS}


@pytest.fixture
def pair(tmp_path: Path, dsn: str, seaweedfs: SeaweedFS) -> Iterator[list[Node]]:
    """Two nodes; of the second a balancer has time to see that it stops, also on a busy machine.

    It has to look, and what it has let in before has to be served.
    """
    installation = Installation.make(tmp_path, dsn, seaweedfs)
    installation.populate("alice")
    with nodes(installation, "a", "b", values={"b": {**places(), DELAY: "6"}}) as made:
        yield made


@dataclass
class Load:
    """Deliveries, each over a connection of its own, until `ends`."""

    port: int
    done: int = 0
    failures: list[str] = field(default_factory=list)
    ends: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Deliver until told to end."""
        text = "Subject: hello\r\n\r\nhello\r\n"
        while not self.ends.is_set():
            try:
                with smtplib.SMTP("127.0.0.1", self.port, timeout=60) as client:
                    client.sendmail("carol@example.org", ["alice@example.test"], text)
                self.done += 1
            except (OSError, smtplib.SMTPException) as error:
                self.failures.append(repr(error))


def restarted(a: Node, b: Node) -> None:
    backends = [Backend(node.port("smtp"), node.port("http")) for node in (a, b)]
    with balancing(backends) as balancer:
        load = Load(balancer.port)
        threads = [threading.Thread(target=load.run) for _ in range(3)]
        for thread in threads:
            thread.start()
        assert b.stop() == 0
        b.values = {**b.values, DELAY: "0"}  # it comes back where it was, and then stops at once
        b.start()
        load.ends.set()
        for thread in threads:
            thread.join()
        assert load.failures == []
        assert balancer.refused == 0
    with a.mailbox() as client:
        # one thread may count while another does
        assert len(client.search(None, "ALL")[1][0].split()) >= load.done > 0


def killed(a: Node, b: Node) -> None:
    backends = [Backend(node.port("imaps"), node.port("http")) for node in (b, a)]
    assert b.process is not None
    with balancing(backends) as balancer:
        through = Node(b.installation, "through", listeners={"imaps": ("127.0.0.1", balancer.port)})
        client = through.mailbox()
        for pid in [b.process.pid, *descendants(b.process.pid)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        b.process.wait()
        with pytest.raises((imaplib.IMAP4.abort, OSError)):
            client.noop()
        client.shutdown()
        with through.mailbox() as again:  # the first attempt: the balancer tries the other
            assert again.search(None, "ALL")[0] == "OK"


async def test_a_restart_refuses_nobody(pair: list[Node]) -> None:
    await asyncio.to_thread(restarted, *pair)


async def test_clients_of_a_killed_node_are_served_by_the_other(pair: list[Node]) -> None:
    await asyncio.to_thread(killed, *pair)
