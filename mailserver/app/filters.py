"""The checks of incoming mail that this process makes, put together as configured."""

import asyncio

from mailserver.antispam.gate import Gate
from mailserver.antispam.maintenance import Maintenance
from mailserver.antispam.pipeline import Checks, Pipeline
from mailserver.antispam.trace import Journal
from mailserver.dns import Resolver
from mailserver.mail.context import Mail


def gate(mail: Mail, resolver: Resolver) -> Gate:
    """Return all checks, none when mail is taken as it comes, and the journal."""
    settings = mail.config.antispam
    clock = asyncio.get_running_loop().time
    pipeline = None
    if settings.enabled:
        pipeline = Pipeline(settings, Checks(), mail.metrics, clock)
    return Gate(pipeline, Journal(mail.database, mail.ids, mail.metrics, mail.now))


def maintenance(mail: Mail, owner: str) -> Maintenance:
    """Return what forgets what the checks no longer need."""
    return Maintenance(mail.config.antispam, mail.database, mail.ids, mail.metrics, mail.now, owner)
