"""A balancer of TCP as stands before servers: it asks who is ready, and lets clients in there."""

import asyncio
import contextlib
import itertools
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

LOOK = 0.1  # seconds between two looks who is ready
PATIENCE = 10.0  # seconds for an answer; the machine may be busy


@dataclass(frozen=True)
class Backend:
    """One server: where it serves, and where it says whether it is ready."""

    port: int
    health: int


class Balancer:
    """Takes connections on `port` and passes each on to a backend that is ready, in turns."""

    def __init__(self, backends: Sequence[Backend]) -> None:
        self._backends = backends
        self._ready: set[Backend] = set()
        self._turns = itertools.count()
        self._pipes: set[asyncio.Task[None]] = set()
        self.port = 0
        self.refused = 0  # connections for which no backend took over

    async def run(self, started: threading.Event, ends: asyncio.Event) -> None:
        """Work until `ends`."""
        await asyncio.gather(*map(self._look, self._backends))
        server = await asyncio.start_server(self._pass_on, "127.0.0.1", 0, backlog=1024)
        self.port = server.sockets[0].getsockname()[1]
        watches = [asyncio.create_task(self._watch(each)) for each in self._backends]
        started.set()
        async with server:
            await ends.wait()
        for task in watches:
            task.cancel()
        await asyncio.gather(*watches, return_exceptions=True)
        await asyncio.sleep(0)  # a task that has not begun would not clean up either
        for task in self._pipes:
            task.cancel()
        await asyncio.gather(*self._pipes, return_exceptions=True)

    async def _watch(self, backend: Backend) -> None:
        """Look at one again and again; one that answers late holds up no look at another."""
        while True:
            await self._look(backend)
            await asyncio.sleep(LOOK)

    async def _look(self, backend: Backend) -> None:
        if await self._is_ready(backend):
            self._ready.add(backend)
        else:
            self._ready.discard(backend)

    async def _is_ready(self, backend: Backend) -> bool:
        try:
            async with asyncio.timeout(PATIENCE):
                reader, writer = await asyncio.open_connection("127.0.0.1", backend.health)
                try:
                    writer.write(b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                    line = await reader.readline()
                finally:
                    writer.close()
        except (OSError, TimeoutError):
            return False
        return b" 200 " in line

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        candidates = [each for each in self._backends if each in self._ready]
        turn = next(self._turns)
        for number in range(len(candidates)):
            backend = candidates[(turn + number) % len(candidates)]
            try:
                there = await asyncio.open_connection("127.0.0.1", backend.port)
            except OSError:
                continue  # it went since we looked
            ways = ((reader, there[1]), (there[0], writer))
            for way in ways:
                task = asyncio.create_task(_pipe(*way))
                self._pipes.add(task)
                task.add_done_callback(self._pipes.discard)
            return
        self.refused += 1
        writer.close()


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while octets := await reader.read(65536):
            writer.write(octets)
            await writer.drain()
        writer.close()
    except (OSError, asyncio.CancelledError):
        writer.transport.abort()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


@contextlib.contextmanager
def balancing(backends: Sequence[Backend]) -> Iterator[Balancer]:
    """Run a balancer in a thread for a block."""
    balancer, started = Balancer(backends), threading.Event()
    loop, ends = asyncio.new_event_loop(), asyncio.Event()
    thread = threading.Thread(
        target=lambda: loop.run_until_complete(balancer.run(started, ends)), daemon=True
    )
    thread.start()
    started.wait(30)
    try:
        yield balancer
    finally:
        loop.call_soon_threadsafe(ends.set)
        thread.join()
        loop.close()
