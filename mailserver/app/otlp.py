"""Spans by OpenTelemetry, told to a collector by OTLP over HTTP; loaded only where that is wanted.

A thread of its own sends them in batches. While the collector is away they are dropped, and the
queue before it is bounded: mail waits for no collector.
"""

import contextvars
import threading
from types import TracebackType

from opentelemetry import context, trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from mailserver import __version__, tracing
from mailserver.config import Config
from mailserver.tracing import Kind, Value

QUEUE = 4096  # spans that wait
BATCH = 512  # spans in one request
DELAY = 2000  # milliseconds between two requests
TIMEOUT = 5  # seconds for a request
LAST = 3.0  # seconds in which what waits is sent at the end; then it is dropped
LIMITS = SpanLimits(
    max_span_attributes=24, max_span_attribute_length=200, max_events=0, max_links=0
)
_KINDS = {
    "internal": SpanKind.INTERNAL,
    "server": SpanKind.SERVER,
    "client": SpanKind.CLIENT,
    "consumer": SpanKind.CONSUMER,
}
_PROPAGATOR = TraceContextTextMapPropagator()


class Tracing(tracing.Tracing):
    """Makes spans and sends them."""

    def __init__(self, config: Config, name: str) -> None:
        """Take where to send them, and the name of this process."""
        resource = {
            "service.name": "mailserver",
            "service.version": __version__,
            "service.instance.id": name,
            "host.name": config.server.hostname,
        }
        endpoint = config.tracing.endpoint.rstrip("/") + "/v1/traces"
        self._provider = TracerProvider(
            sampler=ParentBasedTraceIdRatio(config.tracing.ratio),
            resource=Resource.create(resource),
            shutdown_on_exit=False,
            span_limits=LIMITS,
        )
        self._exporter = OTLPSpanExporter(endpoint, timeout=TIMEOUT)
        self._provider.add_span_processor(
            BatchSpanProcessor(
                self._exporter,
                max_queue_size=QUEUE,
                schedule_delay_millis=DELAY,
                max_export_batch_size=BATCH,
                export_timeout_millis=1000 * TIMEOUT,
            )
        )
        self._tracer = self._provider.get_tracer("mailserver", __version__)

    def span(
        self, name: str, *, kind: Kind = "internal", parent: str | None = None, **attributes: Value
    ) -> tracing.Span:
        """Return a span inside the current one, or inside the one that `parent` names."""
        outer = _PROPAGATOR.extract({"traceparent": parent}) if parent else None
        return Span(
            self._tracer.start_span(
                name,
                outer,
                _KINDS[kind],
                attributes,
                record_exception=False,
                set_status_on_exception=False,
            )
        )

    def parent(self) -> str | None:
        """Return the current span as W3C Trace Context writes it."""
        carrier: dict[str, str] = {}
        _PROPAGATOR.inject(carrier)
        return carrier.get("traceparent")

    def close(self) -> None:
        """Send what waits, as far as the collector takes it soon."""
        # one that is silent would keep the process for 30 seconds
        end = threading.Timer(LAST, self._exporter.shutdown)
        end.daemon = True
        end.start()
        self._provider.shutdown()
        end.cancel()


class Span(tracing.Span):
    """A span that is the current one of its task while its block runs."""

    __slots__ = ("_span", "_token")

    def __init__(self, span: trace.Span) -> None:
        self._span = span
        self._token: contextvars.Token[context.Context] | None = None

    def note(self, **attributes: Value) -> None:
        """Say something about it that is known only now."""
        self._span.set_attributes(attributes)

    def fail(self, reason: str) -> None:
        """Say that it did not work."""
        self._span.set_status(Status(StatusCode.ERROR, reason[:100]))

    def __enter__(self) -> "Span":
        self._token = context.attach(trace.set_span_in_context(self._span))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is not None:
            self.fail(kind.__name__)  # its text may have addresses in it
        self._span.end()
        if self._token is not None:
            context.detach(self._token)
