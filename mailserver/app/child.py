"""Work in a process of its own, whose libraries do not stay in the server's memory."""

import asyncio
import sys


async def run_module(module: str, given: bytes) -> int | None:
    """Run a module with something on its standard input; return its exit code.

    What is given has passwords: arguments and environment can be seen by others, a pipe cannot.
    """
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", module, stdin=asyncio.subprocess.PIPE
    )
    try:
        await child.communicate(given)
    except asyncio.CancelledError:
        if child.returncode is None:
            child.kill()
        await child.wait()
        raise
    return child.returncode
