"""IDLE."""

import asyncio
import logging

from mailserver.errors import Unavailable
from mailserver.imap.commands.auth import recheck
from mailserver.imap.protocol.connection import Bare
from mailserver.imap.protocol.errors import ProtocolError
from mailserver.imap.protocol.framing import LineTooLong
from mailserver.imap.session import Session

log = logging.getLogger(__name__)

KEEPALIVE = 120.0  # seconds between signs of life, for the address translators in between
RETRY = 5.0  # seconds until the store is asked again when it could not be reached


async def idle(session: Session, command: Bare) -> None:
    """Tell what changes as it changes, until DONE (RFC 2177)."""
    with session.awake():  # from here on: what comes while it looks is told at once, too
        await session.tell_news(may_expunge=True, ask=True)
        session.send(b"+ idling\r\n")
        line = await _until_line(session)
    if not isinstance(line, bytes) or line.strip().upper() != b"DONE":
        # QUIRK(iOS): sends its next command inside IDLE; BAD, and the connection stays
        raise ProtocolError("Expected DONE")


async def _until_line(session: Session) -> bytes | LineTooLong:
    """Tell what changes until the client says something; no task and no timer but this one."""
    channel, loop = session.channel, asyncio.get_running_loop()
    patience = KEEPALIVE
    while (line := channel.framing.line()) is None:
        session.flush()
        due = loop.time() + patience
        timer = loop.call_at(due, channel.wake)
        try:
            await channel.more()
        finally:
            timer.cancel()
        waited = loop.time() >= due
        await recheck(session)
        if waited and patience == KEEPALIVE:
            session.untagged(b"OK Still here")
        if waited or session.has_news:
            patience = KEEPALIVE if await _tell(session, ask=waited) else RETRY
    return line


async def _tell(session: Session, *, ask: bool) -> bool:
    """Announce what changed; False when the store cannot be asked now."""
    try:
        await session.tell_news(may_expunge=True, ask=ask)
    except Unavailable:
        log.warning("cannot look for changes", extra={"session": session.id})
        return False
    return True
