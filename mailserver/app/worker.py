"""A worker process: `python -m mailserver.app.worker FD`, started and told what to do by a node.

It accepts connections on sockets that it inherits, and says and hears the rest through FD: that it
is ready, on which sockets to accept, what it has counted, that it shall leave.
"""

import asyncio
import itertools
import signal
import socket
import sys
import traceback
from types import FrameType
from typing import Any, NoReturn

from mailserver import log as logs
from mailserver.app import sample
from mailserver.app.assignment import Assignment, Told
from mailserver.app.backends import external
from mailserver.app.exits import Exit, exit_code, reason
from mailserver.app.node import LINGER
from mailserver.app.server import Server
from mailserver.errors import MailError, Unavailable
from mailserver.runtime.workers.channel import Channel, Message
from mailserver.runtime.workers.sockets import inherited

ALIVE = 5.0  # seconds between two signs of life
ANSWER_TIME = 4.0  # seconds for the metrics of all workers; the supervisor waits for one of them


class Worker:
    """The life of one worker."""

    def __init__(self, channel: Channel, assignment: Assignment) -> None:
        self._channel = channel
        self._assignment = assignment
        self._told = Told(assignment.services or {})
        backends = self._told.backends() if assignment.services else external(assignment.config)
        self._server = Server(
            assignment.config, backends, inherited(assignment.descriptors), self._exposition
        )
        self._questions = itertools.count()
        self._answers: dict[int, asyncio.Future[list[list[Any]]]] = {}
        self._asked_to_stop = asyncio.Event()
        self._asked_to_leave = asyncio.Event()

    async def run(self) -> None:
        """Serve until asked to stop, or to leave, or until the supervisor is gone."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._asked_to_stop.set)
        beside = [asyncio.create_task(self._hear()), asyncio.create_task(self._show_life())]
        try:
            await self._serve()
        finally:
            await asyncio.shield(self._server.stop())
            self._tell("gone")
            for task in beside:
                task.cancel()
            await self._channel.flush()

    async def _serve(self) -> None:
        assignment = self._assignment
        if assignment.initial:
            await self._server.accept((assignment.slot,))  # HTTP, to say that we are starting
        start = asyncio.create_task(
            self._server.start(
                first=assignment.first,
                reached=lambda: self._tell("prepared"),
                prepare=(
                    None if assignment.accounts is None else sample.preparation(assignment.accounts)
                ),
            )
        )
        stop = asyncio.create_task(self._asked_to_stop.wait())
        leave = asyncio.create_task(self._asked_to_leave.wait())
        try:
            await asyncio.wait({start, stop, leave}, return_when=asyncio.FIRST_COMPLETED)
            if not start.done():
                return
            await start
            self._tell("ready")
            await asyncio.wait({stop, leave}, return_when=asyncio.FIRST_COMPLETED)
            if leave.done():
                await self._server.leave(LINGER)
            else:
                await self._server.announce_stop()
        finally:
            for task in (start, stop, leave):
                task.cancel()
            await asyncio.wait({start})

    def _tell(self, what: str, **more: object) -> None:
        self._channel.send({"is": what, "families": self._server.metrics.families(), **more})

    async def _show_life(self) -> None:
        while True:
            self._tell("alive")
            await asyncio.sleep(ALIVE)

    async def _hear(self) -> None:
        while (message := await self._channel.receive()) is not None:
            await self._take(message)
        self._asked_to_stop.set()

    async def _take(self, message: Message) -> None:
        match message["do"]:
            case "serve":
                await self._server.accept(message["slots"])
            case "leave":
                await self._server.accept(())
                self._tell("closed")
                self._asked_to_leave.set()
            case "report":
                self._tell("report", question=message["question"])
            case "render":
                future = self._answers.pop(message["question"], None)
                if future is not None and not future.done():
                    future.set_result(message["families"])
            case "use":
                self._told.services = message["services"]

    async def _exposition(self) -> bytes:
        """Return the metrics of all workers.

        Unavailable when the supervisor is too slow: to whoever graphs them, those of this worker
        alone would look as if the whole server had been started anew.
        """
        question = next(self._questions)
        future: asyncio.Future[list[list[Any]]] = asyncio.get_running_loop().create_future()
        self._answers[question] = future
        self._channel.send({"is": "question", "question": question})
        try:
            return self._server.metrics.render(await asyncio.wait_for(future, ANSWER_TIME))
        except TimeoutError:
            raise Unavailable("the supervisor does not tell the metrics of all workers") from None
        finally:
            self._answers.pop(question, None)


async def work(end: socket.socket) -> int:
    """Do what the supervisor says; return the exit code."""
    channel = await Channel.over(end)
    message = await channel.receive()
    if message is None:
        return Exit.OK
    try:
        assignment = Assignment.read(message)
        config = assignment.config
        logs.configure(config.log.format, config.log.level, _place(assignment))
        await Worker(channel, assignment).run()
    except Exception as error:
        # Unforeseen errors show where they came from; foreseen ones have a text for people.
        if not isinstance(error, MailError | OSError):
            traceback.print_exception(error)
        channel.send({"is": "failed", "text": reason(error), "code": exit_code(error)})
        await channel.flush()
        return exit_code(error)
    finally:
        channel.close()
    return Exit.OK


def _place(assignment: Assignment) -> int | None:
    """Return what the log says of where a line comes from, when there are several workers."""
    return assignment.slot if assignment.config.server.workers > 1 else None


def _leave(signal_number: int, frame: FrameType | None) -> NoReturn:
    """End a process that has started nothing yet."""
    raise SystemExit(0)


def main() -> int:
    """Run until told to end; return the exit code."""
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work(socket.socket(fileno=int(sys.argv[1]))))


if __name__ == "__main__":
    sys.exit(main())
