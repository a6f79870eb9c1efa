"""A relay of webhooks: what is posted to a channel comes out of its event stream."""

import http.server
import json
import queue
import secrets
import ssl
import threading
from collections import defaultdict
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

KEEP_ALIVE = 1.0  # seconds between comments, which show that a listener has gone


class PushRelay(http.server.ThreadingHTTPServer):
    """An https server on the loopback address, of the shape of smee.io.

    GET /new redirects to a channel; GET of it is an event stream with a `ready` event first; a POST
    to it is one event, JSON with the posted JSON as `body`.
    """

    daemon_threads = True

    def __init__(self, certificate: Path, key: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate, key)
        self.socket = context.wrap_socket(
            self.socket, server_side=True, do_handshake_on_connect=False
        )
        self.channels: defaultdict[str, list[queue.SimpleQueue[bytes]]] = defaultdict(list)
        self._thread = threading.Thread(target=self.serve_forever, name="push relay")

    @property
    def url(self) -> str:
        """The base of its addresses."""
        return f"https://127.0.0.1:{self.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()

    def handle_error(self, request: object, client_address: object) -> None:
        """A listener that goes away is no error."""


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: PushRelay

    def do_GET(self) -> None:
        if urlsplit(self.path).path == "/new":
            self.send_response(307)
            self.send_header("Location", f"{self.server.url}/{secrets.token_urlsafe(12)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        posted: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        listeners = self.server.channels[self.path]
        listeners.append(posted)
        try:
            self._stream(posted)
        finally:
            listeners.remove(posted)

    def _stream(self, posted: "queue.SimpleQueue[bytes]") -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(b"event: ready\ndata: {}\n\n")
        while True:
            try:
                event = b"data: " + posted.get(timeout=KEEP_ALIVE) + b"\n\n"
            except queue.Empty:
                event = b":\n\n"
            self.wfile.write(event)

    def do_POST(self) -> None:
        octets = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        event = json.dumps({"body": json.loads(octets)}).encode()
        for listener in list(self.server.channels[self.path]):
            listener.put(event)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""
