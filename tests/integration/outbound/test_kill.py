"""SIGKILL of a worker at every step of a delivery: nothing is lost, doubled only where it must."""

import asyncio
import json
import signal
import subprocess
import sys
from collections import Counter
from datetime import timedelta

import pytest

from mailserver.model import QueueState
from mailserver.queue.work import LEASE_TIME, Ledger
from tests.integration.outbound.conftest import Sending

MESSAGES = 6
# where the worker dies, and whether what it was sending may come twice: only once it was taken
STEPS = {"EHLO": False, "MAIL": False, "RCPT": False, "DATA": False, "END": False, "taken": True}


@pytest.mark.parametrize("step", STEPS)
async def test_a_worker_that_is_killed(sending: Sending, dsn: str, step: str) -> None:
    mail = sending.mail
    process: subprocess.Popen[bytes] | None = None

    def say(line: str) -> str | None:
        if process is not None and process.poll() is None and line.startswith(step):
            process.send_signal(signal.SIGKILL)
            process.wait()
            return ""
        return None

    peer = await sending.peer(say=say)
    sending.domain("example.org", (10, "mx.example.org", "127.0.0.2"))
    for number in range(MESSAGES):
        await sending.send(f"user{number}@example.org")
    config = {
        "server": {"hostname": "mail.example.test"},
        "dns": {"servers": mail.config.dns.servers},
        "outbound": {"port": sending.port, "destination_concurrency": 1},
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.outbound_worker", dsn, json.dumps(config), "victim"]
    )
    if step == "taken":
        await peer.wait_for(1)
        process.send_signal(signal.SIGKILL)
    code = await asyncio.to_thread(process.wait, 60)
    assert code == -signal.SIGKILL
    before = len(peer.received)
    later = Ledger(mail.database, "later", lambda: mail.now() + 2 * LEASE_TIME, lambda: 0.5)
    taken, held = await later.reap()
    assert (taken > 0, held) == (True, 0)
    await sending.due(timedelta(0))
    await sending.work()
    await sending.until(lambda rows: all(row["state"] == QueueState.DELIVERED for row in rows))
    counts = Counter(message.recipients[0] for message in peer.received)
    assert len(counts) == MESSAGES
    doubled = sum(counts.values()) - MESSAGES
    assert doubled <= (before if STEPS[step] else 0)
