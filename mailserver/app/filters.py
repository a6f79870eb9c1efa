"""The checks of incoming mail that this process makes, put together as configured."""

import asyncio

from mailserver.antispam.pipeline import Checks, Pipeline
from mailserver.dns import Resolver
from mailserver.mail.context import Mail


def pipeline(mail: Mail, resolver: Resolver) -> Pipeline | None:
    """Return all checks; None when mail is taken as it comes."""
    settings = mail.config.antispam
    if not settings.enabled:
        return None
    return Pipeline(settings, Checks(), mail.metrics, asyncio.get_running_loop().time)
