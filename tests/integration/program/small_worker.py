"""A worker that serves nothing, to see what its supervisor does: its life is told by `mode`."""

import asyncio
import json
import os
import signal
import socket
import sys
from pathlib import Path

from mailserver.runtime.workers.channel import Channel, Message


async def main() -> None:
    channel = await Channel.over(socket.socket(fileno=int(sys.argv[1])))
    assignment = await channel.receive()
    assert assignment is not None
    mode, slot, place = assignment["mode"], assignment["slot"], Path(assignment["place"])
    if mode == "fails":
        channel.send({"is": "failed", "text": "no luck", "code": 3})
        await channel.flush()
        sys.exit(3)
    if mode == "crashes":
        os.kill(os.getpid(), signal.SIGKILL)
    if mode == "hangs silently":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.pause()
    if mode == "hangs":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        note(place / f"{slot}.{os.getpid()}", {"do": "hang"})
        signal.pause()  # SIGTERM does not end this
    channel.send({"is": "alive", "families": []})
    if mode == "never ready":
        channel.send({"is": "prepared"})
    else:
        channel.send({"is": "ready"})
    if mode == "talks nonsense":
        channel.send({"is": "report"})
    if mode == "silent":
        os.kill(os.getpid(), signal.SIGSTOP)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    if mode == "stubborn":
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, lambda: None)
    hearing = asyncio.create_task(hear(channel, place / f"{slot}.{os.getpid()}", stop))
    while not stop.is_set():
        channel.send({"is": "alive", "families": []})
        await asyncio.wait({hearing}, timeout=0.1)
    hearing.cancel()


async def hear(channel: Channel, file: Path, stop: asyncio.Event) -> None:
    while (message := await channel.receive()) is not None:
        if message["do"] == "leave":
            stop.set()
        note(file, message)


def note(file: Path, message: Message) -> None:
    """Write down what was heard, so that nobody reads half of it."""
    new = Path(f"{file}.new")  # of this process alone: its predecessor may write as well
    new.write_text(json.dumps(message))
    new.rename(file)


if __name__ == "__main__":
    asyncio.run(main())
