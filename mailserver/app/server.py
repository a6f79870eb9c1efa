"""One worker of the mail server: what it is made of, in which order it starts and stops."""

import asyncio
import contextlib
import gc
import logging
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any, Protocol

from mailserver.antispam.gate import OPEN, Gate
from mailserver.app import bucket, schema, store
from mailserver.app.backends import Backends
from mailserver.app.background import Background, every
from mailserver.app.database_clock import LOOK, DatabaseClock
from mailserver.app.filters import Filters, filters
from mailserver.app.forwarded import Forwarding
from mailserver.app.front import Front
from mailserver.app.search_process import SearchProcesses
from mailserver.app.shield import shielded
from mailserver.app.web import WebServer
from mailserver.auth.credentials import Authenticator, Judge
from mailserver.auth.passwords import Passwords
from mailserver.auth.throttle import Attempt, Throttle
from mailserver.config import Config
from mailserver.dns import Outcome, Resolver
from mailserver.errors import ConfigurationError, MailError, Unavailable
from mailserver.feedback.receiving import Receiver
from mailserver.feedback.sending import Sender
from mailserver.feedback.tally import Tally
from mailserver.imap import server as imap_server
from mailserver.imap.clients import Clients
from mailserver.imap.server import ImapServer
from mailserver.jmap.push import vapid
from mailserver.jmap.push.client import PushClient
from mailserver.jmap.push.sender import Pusher
from mailserver.jmap.server.application import Application, application
from mailserver.mail import aftermath, closing, maintenance
from mailserver.mail.context import Mail
from mailserver.mail.memory import Memory
from mailserver.mail.sharing import Shares
from mailserver.metrics import Metrics
from mailserver.model import QueueState
from mailserver.networks import Networks
from mailserver.smtp.limits import Limits
from mailserver.smtp.outbound.worker import Worker
from mailserver.smtp.server import SmtpServer
from mailserver.storage import health, leases, queue
from mailserver.storage.database import refusal
from mailserver.storage.ids import NODE_BEAT
from mailserver.storage.mover import Mover
from mailserver.storage.notify import Notifier
from mailserver.tls import Certificate, expiry
from mailserver.tracing import UNTRACED, Tracing

log = logging.getLogger(__name__)

SCHEMA_LOOK = 0.1  # seconds between two looks whether another worker has made the schema
PASSWORD_THREADS = 2  # of all workers together, at least one for each
BUSY_LOOK = 0.1  # seconds between two looks whether anybody is still connected
READY_TIMEOUT = 3.0  # seconds for PostgreSQL to answer the readiness probe
REFUSED_TIME = 10.0  # seconds in which a renewed password may reach us or PostgreSQL
FIRST_RETRY, LONGEST_RETRY = 0.5, 10.0  # seconds between two attempts to reach PostgreSQL at start
QUEUE_COUNT = 15.0  # seconds between two counts of the queue
COUNTED = (QueueState.WAITING, QueueState.SENDING, QueueState.HELD)
CERTIFICATE_LOOK = 600.0  # seconds between two looks when the certificate ends
S3_CHECK = 30.0  # seconds between two looks whether S3 answers

COLLECT_AFTER = (10_000, 20, 20)  # of gc.set_threshold: objects, young rounds, middle rounds

Prepare = Callable[[Mail], Awaitable[None]]
Exposition = Callable[[], Awaitable[bytes]]
Sockets = Mapping[str, Sequence[Sequence[socket.socket]]]  # by listener, slot and address


class Listening(Protocol):
    """What every protocol server has."""

    @property
    def busy(self) -> bool:
        """Whether anybody is connected."""
        ...

    async def accept(self, listening: socket.socket) -> asyncio.Server:
        """Also take connections from a socket of somebody else, who closes what is returned."""
        ...

    async def stop(self, grace: float) -> None:
        """Let running work end within `grace` seconds, close the rest."""
        ...


class Server:
    """All protocol servers and background tasks of one worker."""

    def __init__(
        self,
        config: Config,
        backends: Backends,
        sockets: Sockets,
        exposition: Exposition | None = None,
    ) -> None:
        """Take the configuration; ConfigurationError when the certificate cannot be used.

        `exposition` returns the metrics of all workers.
        """
        self.config = config
        self.metrics = Metrics(config.metrics.prefix)
        self._sockets = sockets
        self._exposition = exposition
        self._backends = backends
        self._name = store.process_name()
        self._clock = DatabaseClock()
        self._background = Background(self.metrics)
        self._database = store.open_database(config, backends)
        self._blobs = store.open_blobs(backends)
        self._passwords = Passwords(config.server.share(PASSWORD_THREADS))
        self._tracing = _tracing(config, self._name)
        self._search_processes = SearchProcesses()
        self._tls = _certificate(config)
        self._front = Front()
        self._servers: dict[str, Listening] = {
            name: self._web(name) for name in ("http", "https") if name in sockets
        }
        self._doors: dict[tuple[str, int], list[asyncio.Server]] = {}  # where we accept
        self._mail: Mail | None = None
        self._jmap: Application | None = None
        self._push: PushClient | None = None
        self._s3_answers: bool | None = None
        self._worker: Worker | None = None
        self._tally: Tally | None = None
        self._filters: Filters | None = None
        self._stopping = False
        self.metrics.watch_database(
            lambda: self._database.lent,
            lambda: self._database.idle,
            lambda: self._database.waiting,
        )
        self._bucket_is_made = backends.barrier is not None  # SeaweedFS of ours makes its own

    async def start(
        self, *, first: bool, reached: Callable[[], None], prepare: Prepare | None = None
    ) -> None:
        """Get ready to serve; wait for PostgreSQL as long as it takes.

        The first of the workers brings the schema up to date, and the others wait for that.
        `reached` is called when both are there: from then on nothing takes long.
        `prepare` runs once the store can be used and before anybody can log in.
        """
        await self._wait_for_database(migrate=first)
        reached()
        await self._look_at_clock()
        mail = await store.open_mail(
            self.config,
            self._database,
            self._blobs,
            self._passwords,
            self.metrics,
            self._name,
            self._tracing,
            self._clock,
        )
        self._mail = mail
        if prepare is not None:
            await prepare(mail)
        notifier = store.tell_others(mail, self._backends, self._background, self._name)
        resolver = Resolver(
            self.config.dns, asyncio.get_running_loop().time, _observer(self.metrics)
        )
        self._work(mail, resolver)
        authenticator = Authenticator(
            self._database,
            passwords=self._passwords,
            throttle=_shared_throttle(notifier),
            tokens=_tokens(self.config),
        )
        gate = await self._guard(mail, resolver)
        self._push = await self._start_push(mail)
        self._jmap = application(
            mail=mail,
            authenticator=authenticator,
            ready=self.problems,
            exposition=self._exposition,
            journal=gate.journal,
        )
        self._front.application = self._jmap
        self._servers |= protocol_servers(mail, authenticator, self._tls, gate)
        # What is loaded now stays for good, and requests make garbage without cycles: looking
        # through it all again and again took an eighth of the time of a JMAP list. Whatever was
        # garbage has been found while modules were loaded: to look once more takes 60 ms.
        gc.freeze()
        gc.set_threshold(*COLLECT_AFTER)

    async def accept(self, slots: Collection[int]) -> None:
        """Accept on the sockets of these slots and no others, for each server there is."""
        for (name, slot), doors in list(self._doors.items()):
            if slot not in slots:
                del self._doors[name, slot]
                for door in doors:
                    door.close()
        for name, rows in self._sockets.items():
            server = self._servers.get(name)
            for slot in slots:
                if server is None or slot >= len(rows) or (name, slot) in self._doors:
                    continue
                # what is closed later is a duplicate: the slot may be ours again
                self._doors[name, slot] = [await server.accept(each.dup()) for each in rows[slot]]

    async def leave(self, linger: float) -> None:
        """Take no more connections, and serve those there are for `linger` seconds at most.

        Who comes for one message or one command is not disturbed.
        """
        await self.accept(())
        for _ in range(round(linger / BUSY_LOOK)):
            if not any(server.busy for server in self._servers.values()):
                return
            await asyncio.sleep(BUSY_LOOK)

    async def announce_stop(self) -> None:
        """Be no longer ready, and go on for as long as others need to notice."""
        self._stopping = True
        await asyncio.sleep(self.config.server.stop_delay)

    async def stop(self) -> None:
        """Stop in the order in which nothing is lost: listeners, work, connections."""
        log.info("stopping")
        await self.accept(())
        grace = self.config.server.grace
        if self._jmap is not None:
            self._jmap.drain()
        await asyncio.gather(
            *(shielded(each.stop(grace), grace + 5, "listener") for each in self._servers.values())
        )
        if self._worker is not None:
            await shielded(self._worker.stop(grace), grace + 10, "queue")
        if self._mail is not None:
            await shielded(self._mail.committer.drain(), grace + 5, "commits")
        await shielded(self._background.stop(), 5, "background")
        await shielded(self._search_processes.close(), 5, "search text")
        if self._tally is not None:
            await shielded(self._tally.flush(), 5, "report counts")
        if self._filters is not None:
            await shielded(self._filters.close(), 10, "filters")
        if self._push is not None:
            await shielded(self._push.close(), 5, "push")
        if self._mail is not None:
            await shielded(self._give_back(), 5, "leases")
        await shielded(asyncio.to_thread(self._tracing.close), 8, "traces")
        self._passwords.close()
        await self._database.close()

    async def _give_back(self) -> None:
        """Let others have our leases at once; without PostgreSQL they get them when they end."""
        with contextlib.suppress(Unavailable):
            await leases.give_back(self._database, self._name)

    async def _start_push(self, mail: Mail) -> PushClient:
        """Send to devices for as many accounts as no other process does."""
        client = PushClient(self.config.push)
        pusher = Pusher(mail, Shares(mail), client, await vapid.load(mail))
        self._background.run("push", lambda: pusher.run(self._name))
        return client

    async def problems(self) -> list[str]:
        """Say why this process cannot do its work now; nothing when it is ready.

        S3 is not asked: without it mail still arrives and recent mail is read. A process that
        called itself unready then would turn a degraded service into none.
        """
        if self._stopping:
            return ["stopping"]
        try:
            async with asyncio.timeout(READY_TIMEOUT):
                writable = await health.writable(self._database)
        except (MailError, TimeoutError):
            return ["database: does not answer"]
        return [] if writable else ["database: read-only"]

    def _web(self, name: str) -> WebServer:
        http = self.config.http
        share = self.config.server.share
        shares = {
            "max_connections": share(http.max_connections),
            "max_connections_per_ip": share(http.max_connections_per_ip),
        }
        trusted = Networks(http.forwarded_networks)
        return WebServer(
            Forwarding(self._front, trusted, http.forwarded_field) if trusted else self._front,
            http.model_copy(update=shares),
            self._tls if name == "https" else None,
            proxies=Networks(getattr(self.config.listeners, name).proxy_networks),
        )

    async def _wait_for_database(self, *, migrate: bool) -> None:
        """Wait until PostgreSQL answers; ConfigurationError when it goes on refusing the DSN."""
        pause = FIRST_RETRY
        refused_until = asyncio.get_running_loop().time() + REFUSED_TIME
        while True:
            try:
                if migrate:
                    await schema.bring_up_to_date(self._database, self._backends.direct_dsn())
                elif not await schema.is_up_to_date(self._database):
                    await asyncio.sleep(SCHEMA_LOOK)
                    continue
                return
            except (Unavailable, OSError) as error:
                refused = refusal(error)
                if refused and asyncio.get_running_loop().time() > refused_until:
                    raise ConfigurationError(f"database.url: {refused}") from None
                told = refused or str(error)
                log.warning("waiting for PostgreSQL", extra={"error": told, "pause": pause})
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_RETRY)

    async def _guard(self, mail: Mail, resolver: Resolver) -> Gate:
        """Start what the checks of incoming mail need beside the sessions."""
        made = self._filters = await filters(mail, resolver, self._name, self._tally)
        for name, work in made.work.items():
            self._background.run(name, work)
        return made.gate

    def _work(self, mail: Mail, resolver: Resolver) -> None:
        """Start what goes on beside the sessions."""
        self._background.run("clock", every(LOOK, self._look_at_clock))
        self._background.run("node", every(NODE_BEAT, lambda: store.keep_node(mail, self._name)))
        self._background.run("aftermath", lambda: aftermath.run(mail))
        self._background.run("maintenance", lambda: maintenance.run(mail, self._name))
        self._background.run("account removal", lambda: closing.run(mail, self._name))
        self._tally = Tally(mail.database, mail.now)
        self._background.run("report counts", self._tally.run)
        self._background.run("reports received", Receiver(mail, self._name).run)
        self._background.run("reports sent", Sender(mail, resolver, self._name).run)
        mail.indexer.makers = self._search_processes
        self._background.run("search text", mail.indexer.run)
        self._background.run("old search text", lambda: mail.indexer.sweep(self._name))
        self._background.run("queue size", every(QUEUE_COUNT, self._count_queue))
        self._background.run("s3", every(S3_CHECK, self._watch_s3))
        self._background.run("certificate", every(CERTIFICATE_LOOK, self._watch_certificate))
        if self.config.outbound.enabled:
            self._worker = Worker(mail, resolver, self._name, tally=self._tally)
            self._background.run("queue", self._worker.run)
        if self.config.mover.enabled:
            mover = Mover(
                self._database,
                self._blobs,
                mail.ids,
                self.config.mover,
                self.metrics,
                self._clock,
                self._name,
                self._backends.barrier,
            )
            self._background.run("mover", mover.run)

    async def _look_at_clock(self) -> None:
        with contextlib.suppress(Unavailable):  # it goes on by itself
            await self._clock.look(self._database)

    async def _count_queue(self) -> None:
        """Count the queue for the metrics; while PostgreSQL is away the last numbers stay."""
        with contextlib.suppress(Unavailable):
            counts, oldest = await queue.counts(self._database)
            for state in COUNTED:
                self.metrics.queue_size.labels(state.name.lower()).set(counts.get(state, 0))
            age = (self._clock() - oldest).total_seconds() if oldest is not None else 0
            self.metrics.queue_oldest.set(max(age, 0))

    async def _watch_s3(self) -> None:
        """Log when S3 goes and when it comes back; make the bucket once if it is missing."""
        before, self._s3_answers = self._s3_answers, await self._s3()
        self.metrics.s3_available.set(self._s3_answers)
        if self._s3_answers == before:
            return
        if self._s3_answers:
            log.info("S3 answers")
        else:
            log.error("S3 does not answer: old messages cannot be read, new ones are kept")

    async def _watch_certificate(self) -> None:
        """Note when the certificate ends, as it is in its file now."""
        file = self.config.tls.certificate
        ends = expiry(file) if file is not None else None
        if ends is not None:
            self.metrics.certificate_expires.labels("default").set(ends.timestamp())

    async def _s3(self) -> bool:
        try:
            await self._blobs.check()
        except MailError:
            return False
        if self._bucket_is_made:
            return True
        # A bucket that is missing answers like one that is empty, so it is asked for by name.
        there = await self._blobs.has_bucket()
        self._bucket_is_made = there or await bucket.make(self._backends.bucket())
        return self._bucket_is_made


def protocol_servers(
    mail: Mail,
    authenticator: Authenticator,
    tls: ssl.SSLContext | None,
    gate: Gate = OPEN,
) -> dict[str, Listening]:
    """Return the server of each listener that is wanted, but for HTTP."""
    listeners = mail.config.listeners
    names = ("submission", "submissions", "lmtp", "relay")
    smtp = {"smtp": "mx", **{name: name for name in names}}
    share = mail.config.server.share
    limits = Limits.of(mail.config.smtp, share)
    servers: dict[str, Listening] = {
        name: SmtpServer(
            mail=mail,
            authenticator=authenticator,
            tls=tls,
            kind=kind,
            limits=limits,
            gate=gate,
            proxies=Networks(getattr(listeners, name).proxy_networks),
        )
        for name, kind in smtp.items()
        if getattr(listeners, name).enabled
    }
    # one message always fits
    memory = Memory(max(share(imap_server.MEMORY), mail.config.imap.max_append_size))
    disk = Memory(max(share(imap_server.DISK), mail.config.imap.max_append_size))
    clients = Clients(mail.config.imap, mail.events, mail.metrics, share)
    for name in ("imap", "imaps"):
        if not getattr(listeners, name).enabled:
            continue
        servers[name] = ImapServer(
            mail=mail,
            authenticator=authenticator,
            tls=tls,
            implicit_tls=name == "imaps",
            memory=memory,
            disk=disk,
            clients=clients,
            proxies=Networks(getattr(listeners, name).proxy_networks),
        )
    return servers


def _shared_throttle(notifier: Notifier) -> Throttle:
    """Return a brake on guessing that knows what happens in other processes."""
    throttle = Throttle()

    def hear(words: list[Any]) -> None:
        if words[0] == "login":
            _, login, network, succeeded = words
            throttle.hear(Attempt(login, network, succeeded=succeeded), time.monotonic())

    notifier.hear = hear
    throttle.forward(
        lambda each: notifier.notice("login", each.login, each.network, each.succeeded)
    )
    return throttle


def _tracing(config: Config, name: str) -> Tracing:
    """Return who makes spans; what that needs is 20 MB, so it is loaded only then."""
    if not config.tracing.endpoint:
        return UNTRACED
    try:
        from mailserver.app import otlp
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"tracing.endpoint needs the extra `tracing` ({error.name} is not installed)"
        ) from None
    return otlp.Tracing(config, name)


def _tokens(config: Config) -> Judge | None:
    """Return who judges access tokens; what that needs is 20 MB, so it is loaded only then."""
    if not config.oauth.issuer:
        return None
    from mailserver.auth.issuer import Issuer
    from mailserver.auth.tokens import Tokens

    return Tokens(config.oauth, Issuer(config.oauth))


def _observer(metrics: Metrics) -> Callable[[Outcome, float], None]:
    """Return what counts lookups in DNS; nothing is looked up by label for each."""
    counted = {outcome: metrics.dns_lookups.labels(outcome.value).inc for outcome in Outcome}

    def observe(outcome: Outcome, seconds: float) -> None:
        counted[outcome]()
        if outcome is not Outcome.REMEMBERED:
            metrics.dns_seconds.observe(seconds)

    return observe


def _certificate(config: Config) -> ssl.SSLContext | None:
    if config.tls.certificate is None or config.tls.key is None:
        return None
    return Certificate(
        config.tls.certificate, config.tls.key, channel_binding=config.tls.channel_binding
    ).context
