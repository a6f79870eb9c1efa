"""The checks of incoming mail that this process makes, put together as configured."""

import asyncio
from collections.abc import Sequence

from mailserver.antispam.engines import build
from mailserver.antispam.engines.engine import Engine
from mailserver.antispam.gate import Gate
from mailserver.antispam.maintenance import Maintenance
from mailserver.antispam.pipeline import Checks, Pipeline
from mailserver.antispam.trace import Journal
from mailserver.config import Config
from mailserver.dns import Resolver
from mailserver.mail.context import Mail


def engines(config: Config) -> list[Engine]:
    """Return the engines that look at mail, in the order of the configuration."""
    settings = config.antispam
    return build(settings.engines, config.server.hostname) if settings.enabled else []


def gate(mail: Mail, resolver: Resolver, engines: Sequence[Engine] = ()) -> Gate:
    """Return all checks, none when mail is taken as it comes, and the journal."""
    settings = mail.config.antispam
    clock = asyncio.get_running_loop().time
    pipeline = None
    if settings.enabled:
        pipeline = Pipeline(settings, Checks(judges=engines), mail.metrics, clock)
    return Gate(pipeline, Journal(mail.database, mail.ids, mail.metrics, mail.now))


def maintenance(mail: Mail, owner: str) -> Maintenance:
    """Return what forgets what the checks no longer need."""
    return Maintenance(mail.config.antispam, mail.database, mail.ids, mail.metrics, mail.now, owner)
