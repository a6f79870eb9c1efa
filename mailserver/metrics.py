"""Every metric by name; the names are listed in docs/operate.md."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_LATENCY = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)


class Metrics:
    """The counters of one process, in a registry of their own, behind one configurable prefix."""

    def __init__(self, prefix: str) -> None:
        registry = CollectorRegistry()
        self._registry = registry

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"{prefix}_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"{prefix}_{name}", text, labels, registry=registry)

        self.messages_received = counter("messages_received", "messages accepted, by SMTP or LMTP")
        self.messages_sent = counter(
            "messages_sent", "recipients of outgoing mail that were finished", "outcome"
        )
        self.delivery_attempts = counter(
            "delivery_attempts", "attempts to deliver outgoing mail, by recipient", "outcome"
        )
        self.delivery_seconds = Histogram(
            f"{prefix}_delivery_seconds",
            "time from the acceptance of outgoing mail to its delivery",
            buckets=(0.1, 0.5, 1, 5, 30, 120, 600, 3600, 6 * 3600, 86400),
            registry=registry,
        )
        self.spam_blocked = counter("spam_blocked", "messages refused or filed as junk")
        self.queue_size = gauge("queue_size", "recipients in the outgoing queue", "state")
        self.queue_oldest = gauge("queue_oldest_seconds", "age of the oldest mail that waits")
        self.connections = gauge("connections", "open connections", "protocol")
        self.commands = counter("commands", "commands by outcome", "protocol", "command", "outcome")
        self.command_seconds = Histogram(
            f"{prefix}_command_seconds",
            "time from a whole command to its reply",
            ("protocol",),
            buckets=_LATENCY,
            registry=registry,
        )
        self.authentications = counter(
            "authentications", "attempts to log in", "protocol", "outcome"
        )
        self.commit_size = Histogram(
            f"{prefix}_commit_messages",
            "messages in one group commit",
            buckets=(1, 2, 4, 8, 16, 32, 64),
            registry=registry,
        )
        self.pushes = counter("pushes", "messages to push services of devices", "outcome")
        self.blobs_moved = counter("blobs_moved", "message bodies copied to S3")
        self.blobs_dropped = counter("blobs_dropped", "hot copies dropped after the move")
        self.blobs_collected = counter("blobs_collected", "unreferenced bodies deleted")
        self.messages_indexed = counter(
            "messages_indexed", "messages whose search text was made, behind delivery"
        )
        self.background_failures = counter("background_failures", "failed rounds of work", "task")

        self._counts: dict[tuple[str, str, str], Callable[[], None]] = {}
        self._observations: dict[str, Callable[[float], None]] = {}

    def note(self, protocol: str, command: str, outcome: str, seconds: float | None) -> None:
        """Count one command, a name of its protocol's table; `seconds` None: its time says nothing.

        Finding a labelled counter costs more than counting, so each is kept.
        """
        count = self._counts.get((protocol, command, outcome))
        if count is None:
            count = self.commands.labels(protocol, command, outcome).inc
            self._counts[protocol, command, outcome] = count
        count()
        if seconds is None:
            return
        observe = self._observations.get(protocol)
        if observe is None:
            observe = self._observations[protocol] = self.command_seconds.labels(protocol).observe
        observe(seconds)

    def render(self) -> bytes:
        """Return the text exposition format."""
        return generate_latest(self._registry)
