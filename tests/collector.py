"""A collector of spans that takes OTLP by HTTP, as tests need it."""

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass(frozen=True)
class Told:
    """A span as it came."""

    name: str
    trace: bytes
    id: bytes
    parent: bytes
    failed: bool
    attributes: dict[str, Any]
    service: str


@dataclass
class Collector:
    """What was told so far."""

    url: str = ""
    spans: list[Told] = field(default_factory=list)
    _news: threading.Condition = field(default_factory=threading.Condition)

    def take(self, octets: bytes) -> None:
        """Take one request."""
        request = ExportTraceServiceRequest.FromString(octets)
        found = [
            Told(
                span.name,
                span.trace_id,
                span.span_id,
                span.parent_span_id,
                span.status.code == 2,
                {each.key: _value(each.value) for each in span.attributes},
                _service(resource),
            )
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]
        with self._news:
            self.spans += found
            self._news.notify_all()

    def named(self, name: str, times: int = 1) -> list[Told]:
        """Wait until there are so many spans of a name; return those there are."""
        with self._news:
            self._news.wait_for(lambda: len(self._named(name)) >= times, 60)
            return self._named(name)

    def _named(self, name: str) -> list[Told]:
        return [span for span in self.spans if span.name == name]


def _value(value: Any) -> Any:
    return getattr(value, value.WhichOneof("value"))


def _service(resource: Any) -> str:
    about = {each.key: _value(each.value) for each in resource.resource.attributes}
    return str(about["service.name"])


@contextmanager
def collecting() -> Iterator[Collector]:
    """Run a collector for a block."""
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            octets = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                octets = gzip.decompress(octets)
            if self.path == "/v1/traces":
                collector.take(octets)
            self.send_response(200 if self.path == "/v1/traces" else 404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        collector.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield collector
        finally:
            server.shutdown()
            thread.join()
