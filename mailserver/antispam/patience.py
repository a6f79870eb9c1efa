"""For how long mail waits whose author's DMARC policy nobody can tell, as DNS gives no answer.

A sender that is put off comes again for days and then gives up, so to put mail off for ever is to
refuse it, late and without a word. What DMARC would have said is one thing among others that a
message is judged by: after a while it is judged without.
"""

import hashlib
import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

from mailserver.antispam.authentication.results import Authentication
from mailserver.antispam.evidence import Inquiry
from mailserver.antispam.greylist import subnet
from mailserver.antispam.verdict import Action
from mailserver.errors import Unavailable
from mailserver.storage import greylist
from mailserver.storage.database import Database

log = logging.getLogger(__name__)

AFTERWARDS = timedelta(days=1)  # in which a sender comes again at least once


class Patience:
    """Remembers since when mail of an author from a network to a recipient is put off."""

    def __init__(self, seconds: float, database: Database, now: Callable[[], datetime]) -> None:
        """Take how long mail waits; 0: it does not."""
        self._wait = timedelta(seconds=seconds)
        self._database = database
        self._now = now

    async def judged(self, inquiry: Inquiry, done: Authentication) -> Authentication:
        """Return what was found out; it puts the message off no more when that was long enough."""
        if done.dmarc.action is not Action.DEFER:
            return done
        waited = await self._waited(inquiry, done.dmarc.domain)
        if waited < self._wait:
            return done
        about = {"domain": done.dmarc.domain, "session": inquiry.session, "waited": str(waited)}
        log.warning("no answer about a DMARC policy for long: judged without", extra=about)
        reason = f"{done.dmarc.reason}, for too long"
        return replace(done, dmarc=replace(done.dmarc, overdue=True, reason=reason))

    async def _waited(self, inquiry: Inquiry, domain: str) -> timedelta:
        """Return how long ago such mail came first; no time while PostgreSQL cannot tell."""
        recipient = min(map(str, inquiry.recipients), default="postmaster")
        text = "\0".join(("dmarc", domain, subnet(inquiry.client.ip), recipient))
        key = hashlib.sha256(text.encode("utf-8", "replace")).digest()[:16]
        now = self._now()
        try:
            since = await greylist.meet(self._database, [], key, now, now + self._wait + AFTERWARDS)
        except Unavailable:
            return timedelta(0)
        return now - since if since is not None else timedelta(0)
