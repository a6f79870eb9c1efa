"""Signs of life while a command takes long (RFC 9585)."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from mailserver.imap.protocol.responses import in_progress
from mailserver.imap.session import Session

INTERVAL = 10.0  # seconds
# commands whose answers are whole lines, and that may take long in large mailboxes
_TELLING = frozenset(
    {b"SEARCH", b"ESEARCH", b"SORT", b"THREAD", b"COPY", b"MOVE", b"STORE", b"EXPUNGE", b"CLOSE"}
    | {b"APPEND", b"REPLACE", b"DELETE", b"RENAME"}
)


@contextmanager
def telling(session: Session, name: bytes) -> Iterator[None]:
    """Tell from time to time how far a command is, until it is done."""
    if name.removeprefix(b"UID ") not in _TELLING:
        yield
        return
    session.progress = None
    loop = asyncio.get_running_loop()
    timer: asyncio.TimerHandle

    def tell() -> None:
        nonlocal timer
        if not session.relieving:
            session.untagged(b"OK [%b] Still at work" % in_progress(session.tag, session.progress))
            session.flush()
        timer = loop.call_later(INTERVAL, tell)

    timer = loop.call_later(INTERVAL, tell)
    try:
        yield
    finally:
        timer.cancel()
