"""Many connections from one address: `python -m tests.flood HOST PORT SOURCE COUNT GREETING`.

A process of its own, so that it takes no time from whoever looks how others fare. It prints how
many connections were greeted, how many were answered with what else, and how many broke; it holds
those that were greeted until its input ends.
"""

import contextlib
import errno
import json
import resource
import selectors
import socket
import sys
from collections import Counter

AT_ONCE = 500  # connections that nobody has answered yet
LINE = 200  # octets of an answer that are looked at
PATIENCE = 60.0  # seconds in which something must happen


class Flood:
    """The connections, and what was said on each."""

    def __init__(self, target: tuple[str, int], source: str, greeting: bytes) -> None:
        self._target = target
        self._source = source
        self._greeting = greeting
        self._selector = selectors.DefaultSelector()
        self._held: list[socket.socket] = []
        self.said: Counter[str] = Counter()

    def run(self, count: int) -> None:
        """Open so many connections, and hear what is said first on each."""
        opened, waiting = 0, 0
        while opened < count or waiting:
            while opened < count and waiting < AT_ONCE:
                self._selector.register(self._connect(), selectors.EVENT_READ)
                opened, waiting = opened + 1, waiting + 1
            ready = self._selector.select(PATIENCE)
            if not ready:
                self.said["nothing"] += waiting
                return
            for key, _ in ready:
                connection = key.fileobj
                assert isinstance(connection, socket.socket)
                self._selector.unregister(connection)
                waiting -= 1
                self._hear(connection)

    def _connect(self) -> socket.socket:
        connection = socket.socket()
        connection.setblocking(False)
        connection.bind((self._source, 0))
        if (code := connection.connect_ex(self._target)) not in (0, errno.EINPROGRESS):
            raise OSError(code, "connect")
        return connection

    def _hear(self, connection: socket.socket) -> None:
        try:
            line = connection.recv(LINE)
        except OSError as error:
            line = errno.errorcode[error.errno or 0].encode()
        if line.startswith(self._greeting):
            self._held.append(connection)
            self.said["greeted"] += 1
        else:
            connection.close()
            self.said[line.decode("ascii", "replace").strip() or "closed"] += 1

    def close(self) -> None:
        """Give up those that are held."""
        for connection in self._held:
            connection.close()


def main(host: str, port: str, source: str, count: str, greeting: str) -> None:
    """Flood, say what came of it, and hold on."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    flood = Flood((host, int(port)), source, greeting.encode())
    with contextlib.closing(flood):
        flood.run(int(count))
        print(json.dumps(flood.said), flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
