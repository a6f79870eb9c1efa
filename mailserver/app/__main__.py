"""The server process: `python -m mailserver.app dev DIR default|free` or `serve [FILE]`.

`mailserver dev` and `mailserver serve` become this process, which checks the configuration.
"""

import asyncio
import os
import resource
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import FrameType
from typing import NoReturn

from mailserver.app import terminal


def _leave(signal_number: int, frame: FrameType | None) -> NoReturn:
    """End a process that has started nothing yet."""
    raise SystemExit(0)


def main() -> int:
    """Run until a signal; return the exit code."""
    signal.signal(signal.SIGINT, _leave)
    signal.signal(signal.SIGTERM, _leave)
    if not terminal.is_there():
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until there is something to reload
    verb, *arguments = sys.argv[1:]
    _allow_connections()
    run = _dev(*arguments) if verb == "dev" else _serve(*arguments)
    # not uvloop's loop: nothing passes through this process but signals and a word now and then
    with asyncio.Runner() as runner:
        return runner.run(_until_signal(run))


def _allow_connections() -> None:
    """Take all the file descriptors the system lets us have: 1,024 are few connections."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _dev(directory: str, ports: str) -> Callable[[], Awaitable[None]]:
    from mailserver.app.dev import dev

    return lambda: dev(
        Path(directory).absolute(), free_ports=ports == "free", environment=os.environ
    )


def _serve(file: str | None = None) -> Callable[[], Awaitable[None]]:
    from mailserver.app.serve import serve

    return lambda: serve(Path(file) if file else None, os.environ)


async def _until_signal(run: Callable[[], Awaitable[None]]) -> int:
    """Cancel the run at the first signal and wait for its end; at the second one quit hard."""
    from mailserver.app.exits import Exit, exit_code, reason

    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(run())
    asked = False

    def stop(number: int) -> None:
        nonlocal asked
        if asked:
            # The kernel takes our children with us: they asked for a signal at our death.
            os._exit(128 + number)
        asked = True
        task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop, number)
    try:
        await task
    except asyncio.CancelledError:
        return Exit.OK
    except Exception as error:
        # Unforeseen errors show where they came from; foreseen ones have a text for people.
        import traceback

        from mailserver.errors import MailError

        if not isinstance(error, MailError | OSError):
            traceback.print_exception(error)
        sys.stderr.write(f"mailserver: {reason(error)}\n")
        return exit_code(error)
    return Exit.OK


if __name__ == "__main__":
    sys.exit(main())
