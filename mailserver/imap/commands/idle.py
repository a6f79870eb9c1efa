"""IDLE."""

import asyncio
import logging
from typing import Any

from mailserver.errors import Unavailable
from mailserver.imap.protocol.connection import Bare
from mailserver.imap.protocol.errors import ProtocolError
from mailserver.imap.session import Session

log = logging.getLogger(__name__)

KEEPALIVE = 120.0  # seconds between signs of life, for the address translators in between
RETRY = 5.0  # seconds until the store is asked again when it could not be reached


async def idle(session: Session, command: Bare) -> None:
    """Tell what changes as it changes, until DONE (RFC 2177)."""
    await session.synchronize(may_expunge=True, ask=True)
    session.send(b"+ idling\r\n")
    session.flush()
    done = asyncio.ensure_future(session.channel.line())
    changed = _watch(session)
    patience = KEEPALIVE
    try:
        while not done.done():
            waiting: set[asyncio.Future[Any]] = {done} if changed is None else {done, changed}
            finished, _ = await asyncio.wait(
                waiting, timeout=patience, return_when=asyncio.FIRST_COMPLETED
            )
            if done in finished:
                break
            if changed is not None and changed in finished:
                changed = _watch(session)
            elif patience == KEEPALIVE:
                session.untagged(b"OK Still here")
            patience = KEEPALIVE if await _tell(session) else RETRY
            session.flush()
            await session.channel.drain()
    finally:
        done.cancel()
        if changed is not None:
            changed.cancel()
    line = done.result()
    if not isinstance(line, bytes) or line.strip().upper() != b"DONE":
        # QUIRK(iOS): sends its next command inside IDLE; BAD, and the connection stays
        raise ProtocolError("Expected DONE")


async def _tell(session: Session) -> bool:
    """Announce what changed; False when the store cannot be asked now."""
    try:
        await session.synchronize(may_expunge=True, ask=True)
    except Unavailable:
        log.warning("cannot look for changes", extra={"session": session.id})
        return False
    return True


def _watch(session: Session) -> "asyncio.Future[object] | None":
    """Wait for the next change of the account, when a mailbox is open."""
    if session.selected is None:
        return None
    return asyncio.ensure_future(session.selected.subscription.wait())
