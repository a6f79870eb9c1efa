"""Tickets: browsers cannot send credentials with a WebSocket, so they fetch one of these first.

A ticket is good for one connection within a minute, in any process. Only its hash is stored.
"""

import hashlib
import secrets
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import NamedTuple

from mailserver.errors import AuthenticationFailed, NotFound, TooMany
from mailserver.model import Principal
from mailserver.storage import tickets
from mailserver.storage.database import Database

LIFETIME = timedelta(minutes=1)
MAX_TICKETS = 50  # of one account that were not used yet
OCTETS = 32
MAX_TEXT = 100  # characters that are looked at


class Ticket(NamedTuple):
    """A ticket that was just made."""

    value: str
    made_at: datetime
    until: datetime


class Tickets:
    """Makes tickets, and takes them back."""

    def __init__(
        self,
        database: Database,
        now: Callable[[], datetime],
        random: Callable[[int], str] = secrets.token_urlsafe,
    ) -> None:
        self._database = database
        self._now = now
        self._random = random

    async def make(self, principal: Principal) -> Ticket:
        """Return a new ticket; TooMany."""
        now = self._now()
        ticket = Ticket(self._random(OCTETS), now, now + LIFETIME)
        if not await tickets.insert(
            self._database,
            _digest(ticket.value),
            principal.account_id,
            ticket.until,
            now,
            MAX_TICKETS,
        ):
            raise TooMany("tickets")
        return ticket

    async def redeem(self, value: str) -> Principal:
        """Use a ticket up and return whose it was; AuthenticationFailed."""
        found = await tickets.take(self._database, _digest(value), self._now())
        if found is None:
            raise AuthenticationFailed("no such ticket")
        return found

    async def revoke(self, principal: Principal, value: str) -> None:
        """Remove a ticket; NotFound when they have no such one."""
        if not await tickets.delete(self._database, _digest(value), principal.account_id):
            raise NotFound("ticket")


def _digest(value: str) -> bytes:
    return hashlib.sha256(value[:MAX_TEXT].encode("utf-8", "replace")).digest()
