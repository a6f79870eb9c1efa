"""Make search text in processes of their own: to decode mail must not hold up the sessions.

In the server it would take the interpreter from them for milliseconds at a time. The process that
makes the index behind delivery runs at a low priority: what the machine is needed for elsewhere it
does not get, and the indexer waits for it. Those that make words for a search that somebody waits
for do not. A process is started when there is much to do and ended when there was nothing for a
while; it takes 13 MB.
"""

import asyncio
import contextlib
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import Any

from mailserver.app.search_maker import get, put
from mailserver.errors import Corrupt
from mailserver.mail.makers import MakerEnded, Threads
from mailserver.mail.making import Given, Made, MadeFrame

COMMAND = (sys.executable, "-P", "-m", "mailserver.app.search_maker")
NICE = 10  # beside another program that computes it gets a tenth of a core
FEW = 16  # messages for which no process is started
LINGER = 20.0  # seconds without work after which a process ends
SEARCHERS = 2  # processes that make words for searches


class Child:
    """One process, started when it is needed; all but `pid` in a thread."""

    def __init__(self, command: Sequence[str], nice: int) -> None:
        self._command = [*command, str(nice)]
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self.waiting = 0  # requests that are under way, or wait
        self.failed = False  # the last one ended before it had answered
        self.share = 0.0  # of a core that the last answer was given

    @property
    def pid(self) -> int | None:
        """The id of the process, if there is one."""
        process = self._process
        return None if process is None else process.pid

    def ask(self, kind: str, given: Sequence[Given]) -> Any:
        """Return the answer; MakerEnded, Corrupt, or OSError when there can be no process."""
        with self._lock:
            if self._process is None:
                self._process = subprocess.Popen(  # noqa: S603 (our own program)
                    self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE
                )
            asked, answered = self._process.stdin, self._process.stdout
            assert asked is not None
            assert answered is not None
            try:
                put((kind, [tuple(each) for each in given]), asked)
                error, made, share = get(answered)
            except (EOFError, OSError, ValueError, TypeError):
                self.failed = True
                self._end()
                raise MakerEnded("the process that makes search text has ended") from None
            self.failed, self.share = False, share
            if error is not None:
                raise Corrupt(error)
            return made

    def is_for(self, given: Sequence[Given]) -> bool:
        """Tell whether a process should make this; what ended one is not tried in ours."""
        return len(given) > FEW or self.pid is not None or self.failed

    def end(self) -> None:
        """Let the process end; it may be started again."""
        with self._lock:
            self._end()

    def kill(self) -> None:
        """End the process in the middle of its work."""
        process = self._process
        if process is not None:
            process.kill()  # whoever waits for an answer gets none
        self.end()

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()  # it has nothing that could be lost
            with contextlib.suppress(OSError), process:  # what it was not told yet
                pass


class SearchProcesses:
    """Makes search text in processes, and little of it in threads."""

    apart = True

    def __init__(self, command: Sequence[str] = COMMAND, linger: float = LINGER) -> None:
        self._threads = Threads()
        self._linger = linger
        self._behind = Child(command, NICE)
        self._searchers = [Child(command, 0) for _ in range(SEARCHERS)]
        self._timers: dict[Child, asyncio.TimerHandle] = {}
        self._closed = False

    @property
    def running(self) -> list[int]:
        """The ids of the processes that there are."""
        children = (self._behind, *self._searchers)
        return [each.pid for each in children if each.pid is not None]

    @property
    def spare(self) -> float:
        """How much of a core nobody else wanted when the index was made last, 0 to 1."""
        return self._behind.share

    async def index(self, given: Sequence[Given], *, awaited: bool) -> Made:
        """Make what the index has of messages, at a low priority unless somebody waits."""
        child = self._searcher() if awaited else self._behind
        if self._closed or not child.is_for(given):
            return await self._threads.index(given, awaited=awaited)
        try:
            words, frames, unread = await self._ask(child, "index", given)
        except OSError:  # no more processes, or no memory for one
            return await self._threads.index(given, awaited=awaited)
        return Made(words, [MadeFrame(*frame) for frame in frames], unread)

    async def vocabulary(self, given: Sequence[Given]) -> tuple[list[int], bytes]:
        """Make the words of messages for a search."""
        child = self._searcher()
        if self._closed or not child.is_for(given):
            return await self._threads.vocabulary(given)
        try:
            ids, packed = await self._ask(child, "vocabulary", given)
        except OSError:
            return await self._threads.vocabulary(given)
        return ids, packed

    def _searcher(self) -> Child:
        return min(self._searchers, key=lambda each: (each.waiting, each.pid is None))

    async def _ask(self, child: Child, kind: str, given: Sequence[Given]) -> Any:
        child.waiting += 1
        timer = self._timers.pop(child, None)
        if timer is not None:
            timer.cancel()
        try:
            return await asyncio.to_thread(child.ask, kind, given)
        finally:
            child.waiting -= 1
            if child.pid is not None and not child.waiting and not self._closed:
                loop = asyncio.get_running_loop()
                self._timers[child] = loop.call_later(self._linger, self._end, child)

    def _end(self, child: Child) -> None:
        del self._timers[child]
        asyncio.get_running_loop().run_in_executor(None, child.end)

    async def close(self) -> None:
        """End all processes; who still waits for one hears that it has ended."""
        self._closed = True
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        for child in (self._behind, *self._searchers):
            await asyncio.to_thread(child.kill)
