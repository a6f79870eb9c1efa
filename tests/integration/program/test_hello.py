"""TLS that begins with the first octet, on the event loop that the server really has."""

import socket
import ssl
from pathlib import Path

from tests.integration.program.conftest import Start, start_dev


def test_clients_that_say_hello_before_they_are_accepted_are_heard(
    start: Start, tmp_path: Path
) -> None:
    program, _ = start_dev(start, tmp_path / "data")
    context = ssl.create_default_context(cafile=program.document["ca"])
    for listener in ("submissions", "imaps", "https"):
        host, port = program.document["listeners"][listener]
        for _ in range(20):
            with (
                socket.create_connection((host, port), timeout=20) as plain,
                context.wrap_socket(plain, server_hostname="localhost") as connection,
            ):
                assert connection.version() == "TLSv1.3"
    assert program.stop() == 0
