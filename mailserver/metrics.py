"""Every metric by name; the names are listed in docs/operate.md."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics_core import Metric

from mailserver import __version__

_LATENCY = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)


class Metrics:
    """The counters of one process, in a registry of their own, behind one configurable prefix."""

    def __init__(self, prefix: str) -> None:
        registry = CollectorRegistry()
        self._registry = registry
        self._shared: set[str] = set()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"{prefix}_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str, *labels: str, shared: bool = False) -> Gauge:
            """Make a gauge; `shared`: every worker sees the same thing, so it is not added up."""
            if shared:
                self._shared.add(f"{prefix}_{name}")
            return Gauge(f"{prefix}_{name}", text, labels, registry=registry)

        self.messages_received = counter("messages_received", "messages accepted, by SMTP or LMTP")
        self.messages_sent = counter(
            "messages_sent", "recipients of outgoing mail that were finished", "outcome"
        )
        self.delivery_attempts = counter(
            "delivery_attempts", "attempts to deliver outgoing mail, by recipient", "outcome"
        )
        for outcome in ("delivered", "failed"):  # a rate needs a first value to begin at
            self.messages_sent.labels(outcome)
            self.delivery_attempts.labels(outcome)
        self.delivery_seconds = Histogram(
            f"{prefix}_delivery_seconds",
            "time from the acceptance of outgoing mail to its delivery",
            buckets=(0.1, 0.5, 1, 5, 30, 120, 600, 3600, 6 * 3600, 86400),
            registry=registry,
        )
        self._watch_incoming(prefix, counter, gauge)
        self._watch_reports(counter)
        self.queue_size = gauge(
            "queue_size", "recipients in the outgoing queue", "state", shared=True
        )
        self.queue_size.labels("waiting")
        self.queue_oldest = gauge(
            "queue_oldest_seconds", "age of the oldest mail that waits", shared=True
        )
        self._watch_clients(counter, gauge)
        self.command_seconds = Histogram(
            f"{prefix}_command_seconds",
            "time from a whole command to its reply",
            ("protocol",),
            buckets=_LATENCY,
            registry=registry,
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
        self.workers = gauge("workers", "worker processes that serve")
        self.worker_restarts = counter("worker_restarts", "workers that ended and were replaced")
        self.build_info = gauge("build_info", "the version of the program", "version", shared=True)
        self.build_info.labels(__version__).set(1)
        self.s3_available = gauge("s3_available", "1 while S3 answers", shared=True)
        self.database_connections = gauge(
            "database_connections", "connections to PostgreSQL", "state"
        )
        self.database_waiting = gauge(
            "database_waiting", "commands that wait for a connection to PostgreSQL"
        )
        self.certificate_expires = gauge(
            "certificate_expires_timestamp_seconds",
            "when the certificate ends",
            "name",
            shared=True,
        )
        self.background_failures = counter("background_failures", "failed rounds of work", "task")

        self._counts: dict[tuple[str, str, str], Callable[[], None]] = {}
        self._observations: dict[str, Callable[[float], None]] = {}

    def _watch_clients(self, counter: Callable[..., Counter], gauge: Callable[..., Gauge]) -> None:
        """Make the metrics of those who are connected."""
        self.connections = gauge("connections", "open connections", "protocol")
        self.imap_refused = counter(
            "imap_refused", "IMAP connections and logins above a limit", "limit"
        )
        for limit in ("address", "account"):
            self.imap_refused.labels(limit)
        self.commands = counter("commands", "commands by outcome", "protocol", "command", "outcome")
        self.authentications = counter(
            "authentications", "attempts to log in", "protocol", "outcome"
        )

    def _watch_incoming(
        self, prefix: str, counter: Callable[..., Counter], gauge: Callable[..., Gauge]
    ) -> None:
        """Make the metrics of the checks of incoming mail, and of the DNS that they ask."""
        self._watch_dns(prefix, counter)
        self.engines_available = gauge(
            "engines_available",
            "addresses of an engine that answer as they should",
            "engine",
            shared=True,
        )
        self.spam_blocked = counter("spam_blocked", "messages refused or filed as junk", "stage")
        for stage in ("connect", "sender", "recipient", "message", "junk"):
            self.spam_blocked.labels(stage)
        self.greylist = counter(
            "greylist", "recipients whose sender greylisting looked at", "outcome"
        )
        for outcome in ("new", "early", "passed", "known"):
            self.greylist.labels(outcome)
        self.dns_list_in_use = Gauge(
            f"{prefix}_dns_list_in_use",
            "1 while a list in DNS passes its tests and is believed",
            ("list",),
            registry=self._registry,
        )
        self._shared.add(f"{prefix}_dns_list_in_use")
        self.accounts_held = counter("accounts_held", "accounts held as stolen")
        self.traces_lost = counter(
            "traces_lost", "messages whose trace could not be written while PostgreSQL was away"
        )
        self.content_timeouts = counter(
            "content_timeouts", "messages for which the rules of the content filter had no time"
        )
        self._shared.add(f"{prefix}_content_filter_broken")  # one worker is enough for an alarm
        self.content_filter_broken = Gauge(
            f"{prefix}_content_filter_broken",
            "1 while the content filter does not find its test pattern: nothing is filtered by it",
            registry=self._registry,
        )
        self.spam_lessons = counter("spam_lessons", "lessons of users that were learned")
        self.checks = counter("checks", "checks of incoming mail", "check", "result")
        self.check_seconds = Histogram(
            f"{prefix}_check_seconds",
            "time that a check of incoming mail took",
            ("check",),
            buckets=_LATENCY,
            registry=self._registry,
        )

    def _watch_dns(self, prefix: str, counter: Callable[..., Counter]) -> None:
        """Make the metrics of the resolver."""
        self.dns_lookups = counter("dns_lookups", "lookups in DNS", "outcome")
        self.dns_seconds = Histogram(
            f"{prefix}_dns_seconds",
            "time that resolvers took for an answer",
            buckets=_LATENCY,
            registry=self._registry,
        )

    def _watch_reports(self, counter: Callable[..., Counter]) -> None:
        """Make the metrics of reports between mail systems."""
        self.reports_received = counter(
            "reports_received",
            "reports of other mail systems, by what became of them",
            "kind",
            "outcome",
        )
        self.reported_failures = counter(
            "reported_failures",
            "messages and TLS sessions of ours that failed, as reports of others say",
            "kind",
        )
        self.reports_sent = counter(
            "reports_sent",
            "reports to other mail systems, by what became of them",
            "kind",
            "outcome",
        )
        for kind in ("dmarc", "tls"):
            self.reported_failures.labels(kind)

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

    def watch_database(
        self, lent: Callable[[], float], idle: Callable[[], float], waiting: Callable[[], float]
    ) -> None:
        """Ask these whenever the metrics are read."""
        self.database_connections.labels("lent").set_function(lent)
        self.database_connections.labels("idle").set_function(idle)
        self.database_waiting.set_function(waiting)

    def families(self) -> list[list[Any]]:
        """Return everything as lists, to be added to what other workers have counted.

        A family is [name, how, kind, help, samples], a sample [name, labels, value].
        """
        return [
            [
                family.name,
                "largest" if family.name in self._shared else "sum",
                family.type,
                family.documentation,
                [
                    [sample.name, sample.labels, sample.value]
                    for sample in family.samples
                    if not sample.name.endswith("_created")
                ],
            ]
            for family in self._registry.collect()
        ]

    def render(self, families: Iterable[list[Any]] | None = None) -> bytes:
        """Return the text exposition format, by default of this process alone."""
        return generate_latest(_Told(self.families() if families is None else families))


class _Told(CollectorRegistry):
    """A registry of families that were told, not counted here."""

    def __init__(self, families: Iterable[list[Any]]) -> None:
        super().__init__()
        self._families = list(families)

    def collect(self) -> Iterator[Metric]:
        """Give every family."""
        for name, _, kind, text, samples in self._families:
            metric = Metric(name, text, kind)
            for sample, labels, value in samples:
                metric.add_sample(sample, labels, value)
            yield metric
