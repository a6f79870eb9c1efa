"""One process of the mail server: what it is made of, in which order it starts and stops."""

import asyncio
import contextlib
import gc
import logging
import ssl
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

from mailserver.app import bucket, schema, store
from mailserver.app.backends import Backends
from mailserver.app.background import Background, every, shielded
from mailserver.app.front import Front
from mailserver.app.web import WebServer
from mailserver.auth.credentials import Authenticator, Judge
from mailserver.auth.passwords import Passwords
from mailserver.config import Config, Listener
from mailserver.dns import Resolver
from mailserver.errors import ConfigurationError, MailError, Unavailable
from mailserver.imap import server as imap_server
from mailserver.imap.server import ImapServer
from mailserver.jmap.push import vapid
from mailserver.jmap.push.client import PushClient
from mailserver.jmap.push.sender import Pusher
from mailserver.jmap.server.application import Application, application
from mailserver.mail import aftermath, maintenance
from mailserver.mail.context import Mail
from mailserver.mail.memory import Memory
from mailserver.mail.sharing import Shares
from mailserver.metrics import Metrics
from mailserver.model import QueueState
from mailserver.smtp.limits import Limits
from mailserver.smtp.outbound.worker import Worker
from mailserver.smtp.server import SmtpServer
from mailserver.storage import health, leases, queue
from mailserver.storage.mover import Mover
from mailserver.tls import Certificate

log = logging.getLogger(__name__)

READY_TIMEOUT = 3.0  # seconds for PostgreSQL to answer the readiness probe
FIRST_RETRY, LONGEST_RETRY = 0.5, 10.0  # seconds between two attempts to reach PostgreSQL at start
QUEUE_COUNT = 15.0  # seconds between two counts of the queue
COUNTED = (QueueState.WAITING, QueueState.SENDING, QueueState.HELD)
S3_CHECK = 30.0  # seconds between two looks whether S3 answers

COLLECT_AFTER = (10_000, 20, 20)  # of gc.set_threshold: objects, young rounds, middle rounds

Prepare = Callable[[Mail], Awaitable[None]]


class Listening(Protocol):
    """What every protocol server has."""

    async def start(self, listener: Listener) -> tuple[str, int]:
        """Listen and return the address and the port."""
        ...

    async def stop(self, grace: float) -> None:
        """Stop listening, let running work end within `grace` seconds, close the rest."""
        ...


class Server:
    """All listeners and background tasks of one process."""

    def __init__(self, config: Config, backends: Backends) -> None:
        """Take the configuration; ConfigurationError when the certificate cannot be used."""
        self.config = config
        self.listeners: dict[str, tuple[str, int]] = {}
        self._backends = backends
        self._name = store.process_name()
        self._metrics = Metrics(config.metrics.prefix)
        self._background = Background(self._metrics)
        self._database = store.open_database(config, backends)
        self._blobs = store.open_blobs(backends)
        self._passwords = Passwords()
        self._tls = _certificate(config)
        self._front = Front()
        self._servers: list[Listening] = []
        self._mail: Mail | None = None
        self._jmap: Application | None = None
        self._push: PushClient | None = None
        self._s3_answers: bool | None = None
        self._worker: Worker | None = None
        self._bucket_is_made = backends.barrier is not None  # SeaweedFS of ours makes its own

    async def start(self, prepare: Prepare | None = None) -> None:
        """Start everything; wait for PostgreSQL as long as it takes.

        `prepare` runs once the store can be used and before anybody can log in.
        """
        await self._listen({name: self._web(name) for name in ("http", "https")})
        await self._wait_for_database()
        mail = await store.open_mail(
            self.config, self._database, self._blobs, self._passwords, self._metrics
        )
        self._mail = mail
        if prepare is not None:
            await prepare(mail)
        self._work(mail)
        authenticator = Authenticator(
            self._database, passwords=self._passwords, tokens=_tokens(self.config)
        )
        self._push = await self._start_push(mail)
        self._jmap = application(mail=mail, authenticator=authenticator, ready=self.problems)
        self._front.application = self._jmap
        await self._listen(protocol_servers(mail, authenticator, self._tls))
        # What is loaded now stays for good, and requests make garbage without cycles: looking
        # through it all again and again took an eighth of the time of a JMAP list.
        gc.collect()
        gc.freeze()
        gc.set_threshold(*COLLECT_AFTER)

    async def stop(self) -> None:
        """Stop in the order in which nothing is lost: listeners, work, connections."""
        log.info("stopping")
        grace = self.config.server.grace
        if self._jmap is not None:
            self._jmap.drain()
        stops = [shielded(server.stop(grace), grace + 5, "listener") for server in self._servers]
        await asyncio.gather(*stops)
        if self._worker is not None:
            await shielded(self._worker.stop(grace), grace + 10, "queue")
        if self._mail is not None:
            await shielded(self._mail.committer.drain(), grace + 5, "commits")
        await shielded(self._background.stop(), 5, "background")
        if self._push is not None:
            await shielded(self._push.close(), 5, "push")
        await shielded(leases.give_back(self._database, self._name), 5, "leases")
        self._passwords.close()
        await self._database.close()

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
        try:
            async with asyncio.timeout(READY_TIMEOUT):
                writable = await health.writable(self._database)
        except (MailError, TimeoutError):
            return ["database: does not answer"]
        return [] if writable else ["database: read-only"]

    async def _listen(self, servers: Mapping[str, Listening]) -> None:
        for name, server in servers.items():
            listener: Listener = getattr(self.config.listeners, name)
            if not listener.enabled:
                continue
            try:
                self.listeners[name] = await server.start(listener)
            except OSError as error:
                raise ConfigurationError(
                    f"listeners.{name}: cannot listen on {listener.host} port {listener.port}:"
                    f" {error.strerror or error}"
                ) from None
            self._servers.append(server)

    def _web(self, name: str) -> WebServer:
        return WebServer(self._front, self.config.http, self._tls if name == "https" else None)

    async def _wait_for_database(self) -> None:
        pause = FIRST_RETRY
        while True:
            try:
                await schema.bring_up_to_date(self._database, self._backends.direct_dsn())
                return
            except (Unavailable, OSError) as error:
                log.warning("waiting for PostgreSQL", extra={"error": str(error), "pause": pause})
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_RETRY)

    def _work(self, mail: Mail) -> None:
        """Start what goes on beside the sessions."""
        store.tell_others(mail, self._backends, self._background, self._name)
        self._background.run("aftermath", lambda: aftermath.run(mail))
        self._background.run("maintenance", lambda: maintenance.run(mail, self._name))
        self._background.run("search text", mail.indexer.run)
        self._background.run("old search text", lambda: mail.indexer.sweep(self._name))
        self._background.run("queue size", every(QUEUE_COUNT, self._count_queue))
        self._background.run("s3", every(S3_CHECK, self._watch_s3))
        if self.config.outbound.enabled:
            resolver = Resolver(self.config.dns, asyncio.get_running_loop().time)
            self._worker = Worker(mail, resolver, self._name)
            self._background.run("queue", self._worker.run)
        if self.config.mover.enabled:
            mover = Mover(
                self._database,
                self._blobs,
                mail.ids,
                self.config.mover,
                self._metrics,
                store.now,
                self._name,
                self._backends.barrier,
            )
            self._background.run("mover", mover.run)

    async def _count_queue(self) -> None:
        """Count the queue for the metrics; while PostgreSQL is away the last numbers stay."""
        with contextlib.suppress(Unavailable):
            counts, oldest = await queue.counts(self._database)
            for state in COUNTED:
                self._metrics.queue_size.labels(state.name.lower()).set(counts.get(state, 0))
            age = (store.now() - oldest).total_seconds() if oldest is not None else 0
            self._metrics.queue_oldest.set(max(age, 0))

    async def _watch_s3(self) -> None:
        """Log when S3 goes and when it comes back; make the bucket once if it is missing."""
        before, self._s3_answers = self._s3_answers, await self._s3()
        if self._s3_answers == before:
            return
        if self._s3_answers:
            log.info("S3 answers")
        else:
            log.error("S3 does not answer: old messages cannot be read, new ones are kept")

    async def _s3(self) -> bool:
        try:
            await self._blobs.check()
        except MailError:
            return False
        if self._bucket_is_made:
            return True
        # A bucket that is missing answers like one that is empty, so it is asked for by name.
        self._bucket_is_made = await bucket.make(self._backends.bucket())
        return self._bucket_is_made


def protocol_servers(
    mail: Mail, authenticator: Authenticator, tls: ssl.SSLContext | None
) -> dict[str, Listening]:
    """Return the server of each listener, but for HTTP."""
    smtp = {"smtp": "mx", "submission": "submission", "submissions": "submissions"}
    limits = Limits.of(mail.config.smtp)
    servers: dict[str, Listening] = {
        name: SmtpServer(mail=mail, authenticator=authenticator, tls=tls, kind=kind, limits=limits)
        for name, kind in smtp.items()
    }
    # one message always fits
    memory = Memory(max(imap_server.MEMORY, mail.config.imap.max_append_size))
    disk = Memory(imap_server.DISK)
    for name in ("imap", "imaps"):
        servers[name] = ImapServer(
            mail=mail,
            authenticator=authenticator,
            tls=tls,
            implicit_tls=name == "imaps",
            memory=memory,
            disk=disk,
        )
    return servers


def _tokens(config: Config) -> Judge | None:
    """Return who judges access tokens; what that needs is 20 MB, so it is loaded only then."""
    if not config.oauth.issuer:
        return None
    from mailserver.auth.issuer import Issuer
    from mailserver.auth.tokens import Tokens

    return Tokens(config.oauth, Issuer(config.oauth))


def _certificate(config: Config) -> ssl.SSLContext | None:
    if config.tls.certificate is None or config.tls.key is None:
        return None
    return Certificate(
        config.tls.certificate, config.tls.key, channel_binding=config.tls.channel_binding
    ).context
