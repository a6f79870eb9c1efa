"""Builds the store of mail: the database, the bucket, and the handle that operations take."""

import contextlib
import logging
import os
import socket
from collections.abc import Callable
from datetime import datetime

from mailserver.app.backends import Backends
from mailserver.app.background import Background
from mailserver.app.clock import now as system_time
from mailserver.auth.passwords import Passwords
from mailserver.config import Config
from mailserver.errors import Unavailable
from mailserver.events import Hub
from mailserver.mail import deltas
from mailserver.mail.context import Mail
from mailserver.metrics import Metrics
from mailserver.storage import ids
from mailserver.storage.blobs import S3Blobs
from mailserver.storage.database import Database
from mailserver.storage.ids import Ids, take_node
from mailserver.storage.notify import Notifier
from mailserver.tracing import UNTRACED, Tracing

log = logging.getLogger(__name__)

LEAST_CONNECTIONS = 4  # of one worker: two commit while others read


def process_name() -> str:
    """Return a name that no other process of the installation has, for leases and notices."""
    return f"{socket.gethostname()}:{os.getpid()}:{os.urandom(4).hex()}"


def open_database(config: Config, backends: Backends) -> Database:
    """Return the pool of one worker; it connects when it is first used."""
    size = max(LEAST_CONNECTIONS, config.server.share(config.database.pool_size))
    return Database(backends.dsn, size)


def open_blobs(backends: Backends) -> S3Blobs:
    """Return the bucket; it connects when it is first used."""
    return S3Blobs(backends.bucket)


async def open_mail(
    config: Config,
    database: Database,
    blobs: S3Blobs,
    passwords: Passwords,
    metrics: Metrics,
    name: str,
    tracing: Tracing = UNTRACED,
    now: Callable[[], datetime] = system_time,
) -> Mail:
    """Return the handle of the store for a process; the schema must be up to date."""
    return Mail(
        database=database,
        blobs=blobs,
        events=Hub(),
        ids=Ids(await take_node(database, name, now()), now),
        passwords=passwords,
        metrics=metrics,
        config=config,
        now=now,
        tracing=tracing,
    )


async def keep_node(mail: Mail, name: str) -> None:
    """Keep the node number of this process, or take another if it was lost."""
    with contextlib.suppress(Unavailable):  # the lease outlives many of these
        if not await ids.keep_node(mail.database, mail.ids.node, name, mail.now()):
            mail.ids.renumber(await take_node(mail.database, name, mail.now()))
            log.error("another process has our node number", extra={"node": mail.ids.node})


def tell_others(mail: Mail, backends: Backends, background: Background, name: str) -> Notifier:
    """Tell other processes what this one changes, and hear what they do."""
    direct = Database(backends.direct_dsn, 1)
    way = mail.config.database.notices
    notifier = Notifier(mail.database, mail.events, mail.metrics, name, way, direct)
    deltas.share(mail, notifier)
    background.run("notifier", notifier.run)
    return notifier
