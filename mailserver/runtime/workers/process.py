"""One worker process, as its supervisor sees it."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence

from mailserver.runtime.embedded import launch
from mailserver.runtime.workers.channel import Channel, Message
from mailserver.runtime.workers.tally import Family

DEATH_SIGNAL = signal.SIGKILL  # all that was acknowledged is committed, so a hard end loses nothing


class Worker:
    """A running worker and what it has told us."""

    def __init__(self, slot: int, command: Sequence[str], descriptors: Sequence[int]) -> None:
        """Spawn it now; the descriptor of its end of the channel is its last argument."""
        self.slot = slot
        self.ready = False
        self.failure: tuple[str, int] | None = None  # why it does not start, and its exit code
        self.families: list[Family] = []  # its metrics, as it told them last
        self.reports: dict[int, asyncio.Future[None]] = {}  # questions for its metrics
        self.heard = 0.0  # loop time of its last word
        self.prepared = 0.0  # loop time when it had the store
        self.asked_to_leave = False
        self.changed = asyncio.Event()  # it became ready, or has ended
        self.closed = asyncio.Event()  # it takes no more connections, or has ended
        self._loop = asyncio.get_running_loop()
        self._exited: asyncio.Future[int] = self._loop.create_future()
        self._ours, theirs = socket.socketpair()
        with contextlib.ExitStack() as failing, theirs:
            failing.enter_context(self._ours)
            self._process = _spawn(
                [*command, str(theirs.fileno())], [*descriptors, theirs.fileno()]
            )
            failing.pop_all()
        self.pid = self._process.pid
        self.born = self._loop.time()
        self._channel: Channel | None = None
        # A pidfd and not the loop's child watcher: no thread, no SIGCHLD, no pid used again.
        self._pidfd = os.pidfd_open(self.pid)
        self._loop.add_reader(self._pidfd, self._reap)

    @property
    def running(self) -> bool:
        """Whether the process has not ended yet."""
        return not self._exited.done()

    async def open(self, assignment: Message) -> Channel:
        """Tell it what to do, and return the channel on which it answers."""
        self._channel = await Channel.over(self._ours)
        self._channel.send(assignment)
        return self._channel

    def tell(self, message: Message) -> None:
        """Say something to it."""
        if self._channel is not None and self.running:
            self._channel.send(message)

    def send(self, number: signal.Signals) -> None:
        """Send a signal if it still runs."""
        if self.running:
            with contextlib.suppress(ProcessLookupError):  # ended, not reaped yet
                signal.pidfd_send_signal(self._pidfd, number)

    async def wait(self) -> int:
        """Return the exit code, negative for a signal, once it has ended."""
        return await asyncio.shield(self._exited)

    async def until_ready(self) -> bool:
        """Wait until it is ready; False when it ends instead."""
        while self.running and not self.ready:
            self.changed.clear()
            await self.changed.wait()
        return self.running

    async def stop(self, seconds: float) -> None:
        """Ask it to end, and make it end after `seconds`."""
        self.asked_to_leave = True
        self.send(signal.SIGTERM)
        try:
            await asyncio.wait_for(self.wait(), seconds)
        except TimeoutError:
            self.send(signal.SIGKILL)
            await self.wait()

    def _reap(self) -> None:
        code = self._process.poll()
        if code is None:
            return
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        if self._channel is not None:
            self._channel.close()
        else:
            self._ours.close()
        if not self._exited.done():
            self._exited.set_result(code)
        self.changed.set()
        self.closed.set()


def _spawn(argv: list[str], descriptors: Sequence[int]) -> "subprocess.Popen[bytes]":
    spec = launch.Spec(
        parent=os.getpid(), death_signal=DEATH_SIGNAL, user=None, needs=[], argv=argv
    )
    return subprocess.Popen(  # noqa: S603 (our own program and arguments)
        [sys.executable, "-I", "-S", launch.__file__, json.dumps(spec)],
        stdin=subprocess.DEVNULL,
        pass_fds=descriptors,
        start_new_session=True,  # Ctrl-C is for the supervisor
    )
