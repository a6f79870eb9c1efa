"""Signs of life while a command takes long (RFC 9585)."""

import asyncio

from mailserver.imap.protocol.responses import in_progress
from mailserver.imap.session import Session

INTERVAL = 10.0  # seconds
# commands whose answers are whole lines, and that may take long in large mailboxes
_ONES = (
    *(b"SEARCH", b"ESEARCH", b"SORT", b"THREAD", b"COPY", b"MOVE", b"STORE", b"EXPUNGE", b"CLOSE"),
    *(b"APPEND", b"REPLACE", b"DELETE", b"RENAME"),
)
TELLING = frozenset((*_ONES, *(b"UID " + name for name in _ONES)))


class Telling:
    """Tells from time to time how far a command is, until it is done."""

    __slots__ = ("_loop", "_session", "_timer")

    def __init__(self, session: Session) -> None:
        self._session = session
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> None:
        self._session.progress = None
        self._timer = self._loop.call_later(INTERVAL, self._tell)

    def __exit__(self, *_: object) -> None:
        assert self._timer is not None
        self._timer.cancel()

    def _tell(self) -> None:
        session = self._session
        if not session.relieving:
            session.untagged(b"OK [%b] Still at work" % in_progress(session.tag, session.progress))
            session.flush()
        self._timer = self._loop.call_later(INTERVAL, self._tell)
