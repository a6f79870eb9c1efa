"""The conversation: command after command, each answered, counted, timed and logged here once."""

import asyncio
import logging
from functools import lru_cache
from typing import NamedTuple

from mailserver.errors import MailError
from mailserver.imap.channel import Disconnected, ShuttingDown, TimedOut
from mailserver.imap.commands import BEFORE_LOGIN, CODES, COMMANDS, LOGGED_IN, Spec
from mailserver.imap.commands.auth import recheck
from mailserver.imap.commands.capabilities import capability_list
from mailserver.imap.commands.progress import TELLING, Telling
from mailserver.imap.protocol.cursor import TAG, Cursor
from mailserver.imap.protocol.errors import BadCharset, BadName, Garbled, ProtocolError
from mailserver.imap.protocol.framing import Command, Hopeless, LineTooLong, NoRoom, Outcome
from mailserver.imap.protocol.responses import status_line
from mailserver.imap.selected import Refused
from mailserver.imap.session import Session, ShutOut, State

log = logging.getLogger(__name__)

RETRY = 5.0  # seconds until the store is asked again when it could not be reached
_OUTCOMES = {b"OK": "ok", b"NO": "no", b"BAD": "bad"}  # as metrics call them
REPEATED = 128  # octets of a command that is looked for among those that were read before
REMEMBERED = 1024  # commands, of all sessions
MAX_ERRORS = 50  # BAD answers in a row before a client that talks nonsense is let go


async def converse(session: Session) -> None:
    """Greet the client and serve it until it leaves or is let go."""
    hostname = session.mail.config.server.hostname.encode("ascii", "replace")
    greeting = b"CAPABILITY " + capability_list(session)
    session.send(status_line(b"*", b"OK", hostname + b" ready", greeting))
    bad = 0
    loop = asyncio.get_running_loop()
    try:
        while session.state is not State.LOGOUT:
            session.flush()
            await session.channel.drain()  # a client that only talks does not pile up answers
            outcome = await _next(session)
            if outcome is None:
                break
            if session.recheck_at <= loop.time():
                await recheck(session)
            bad = 0 if await respond(session, outcome) else bad + 1
            if bad >= MAX_ERRORS:
                session.bye(b"Too many errors")
    except TimedOut:
        session.bye(b"Idle for too long")
    except ShutOut:
        session.bye(b"The account is disabled", b"CONTACTADMIN")
    except Garbled:
        session.bye(b"Compressed data is damaged")
    except ShuttingDown:
        session.bye(b"Server is going down", b"UNAVAILABLE")
    except Disconnected:
        return
    finally:
        session.end()
        session.channel.release()
    session.flush()


async def _next(session: Session) -> Outcome | None:
    """Wait for the next command, and tell what happens as long as none comes (RFC 5465 §3.1).

    Returns None when what happened was the end.
    """
    session.channel.release()
    while (outcome := await session.channel.command()) is None:
        await recheck(session)
        if session.watch is not None and session.has_news:
            await _tell_news(session)
        if session.state is State.LOGOUT:
            return None
    return outcome


async def _tell_news(session: Session) -> None:
    """Tell what happened between two commands; without the store, later."""
    try:
        await session.tell_news(may_expunge=False, ask=False)
    except MailError as error:
        session.behind = True
        log.warning("cannot look for changes", extra={"session": session.id, "reason": str(error)})
        asyncio.get_running_loop().call_later(RETRY, session.channel.wake)
    except Refused as refusal:  # BYE has been said
        log.info("let go", extra={"session": session.id, "reason": refusal.text})
    session.flush()
    await session.channel.drain()


async def respond(session: Session, event: Outcome) -> bool:
    """Answer one event of the framing; False when it was nothing that could be read."""
    if isinstance(event, Command):
        return await _command(session, event)
    if isinstance(event, Hopeless):
        session.bye(b"Literal is too large", b"TOOBIG")
    elif isinstance(event, LineTooLong):
        session.send(status_line(event.tag, b"BAD", b"Command is too long"))
    elif isinstance(event, NoRoom):
        session.send(status_line(event.tag, b"NO", b"No room now, try again later", b"LIMIT"))
    elif event.append:
        session.send(status_line(event.tag, b"NO", b"Message is too large", b"TOOBIG"))
    else:
        session.send(status_line(event.tag, b"BAD", b"Literal is too large"))
    return False


class _Reading(NamedTuple):
    """A command that could be read."""

    name: bytes
    spec: Spec
    arguments: object


async def _command(session: Session, command: Command) -> bool:
    loop = asyncio.get_running_loop()
    started = loop.time()
    reading = _remembered(session, command) or _read(session, command)
    if isinstance(reading, bool):
        return reading
    name, spec, arguments = reading
    status, text, code = await _traced(session, name, spec, arguments)
    code = _with_limit(session, status, code)
    if session.state in LOGGED_IN and spec.announces:
        await _synchronize(session, spec)
    session.send(status_line(session.tag, status, text, code))
    await session.relieve()
    _count(session, name, status, loop.time() - started)
    if spec.then is not None and status == b"OK":
        session.flush()
        await spec.then(session)
    return status != b"BAD"


def _remembered(session: Session, command: Command) -> _Reading | None:
    """Read a short command as it was read before: clients say the same again and again.

    None when it cannot be done; whoever reads it then says why. Nothing that is said before the
    login is remembered, nor a login.
    """
    text = command.parts[0]
    assert isinstance(text, bytes)
    if session.principal is None or len(command.parts) > 1 or len(text) > REPEATED:
        return None
    tag, _, rest = text.partition(b" ")
    if TAG.fullmatch(tag) is None:
        return None
    try:
        reading = _alike(rest, session.utf8)
    except (BadName, BadCharset, ProtocolError):
        return None
    if session.state not in reading.spec.states or (session.uidonly and reading.spec.numbers):
        return None
    session.tag = tag
    return reading


@lru_cache(REMEMBERED)
def _alike(text: bytes, utf8: bool) -> _Reading:
    cursor = Cursor((text,), utf8=utf8)
    name = _name(cursor)
    spec = COMMANDS.get(name)
    if spec is None or spec.states is BEFORE_LOGIN:
        cursor.fail("Nothing to be remembered")
    return _Reading(name, spec, spec.parse(cursor))


def _read(session: Session, command: Command) -> _Reading | bool:
    """Read a command; answer one that cannot be read, and return what `respond` does."""
    cursor = Cursor(command.parts, utf8=session.utf8)
    tag, name = b"*", b""
    try:
        tag = session.tag = cursor.tag()
        cursor.space()
        name = _name(cursor)
        spec = COMMANDS.get(name)
        if spec is None:
            cursor.fail("Unknown command")
        if session.state not in spec.states:
            cursor.fail("Command is not possible now")
        if session.uidonly and spec.numbers:
            cursor.fail("Messages have to be named by UID", b"UIDREQUIRED")
        return _Reading(name, spec, spec.parse(cursor))
    except BadName as error:
        session.send(status_line(tag, b"NO", str(error).encode("ascii"), b"CANNOT"))
        _count(session, name, b"NO", 0.0)
        return True
    except ProtocolError as error:
        text = str(error).encode("ascii", "replace")
        session.send(status_line(tag, b"BAD", text, error.code))
        _count(session, name if name in COMMANDS else b"?", b"BAD", 0.0)
        return False
    except BadCharset as error:
        if error.saves and session.selected is not None:
            session.open.view.saved = ()
        # the two that every client can use; all charsets of mail are known (RFC 9051 §6.4.4)
        charsets = b"BADCHARSET (US-ASCII UTF-8)"
        session.send(status_line(tag, b"NO", b"Unknown charset", charsets))
        _count(session, name, b"NO", 0.0)
        return True


def _name(cursor: Cursor) -> bytes:
    name = cursor.word()
    if name == b"UID":
        cursor.space()
        name += b" " + cursor.word()
    return name


async def _traced(
    session: Session, name: bytes, spec: Spec, arguments: object
) -> tuple[bytes, bytes, bytes | None]:
    """Do a command as one span; IDLE is none, it lasts until something happens."""
    if name == b"IDLE":
        return await _outcome(session, name, spec, arguments)
    with session.mail.tracing.span(
        f"IMAP {name.decode()}", kind="server", session=session.id
    ) as span:
        done = await _outcome(session, name, spec, arguments)
        span.note(outcome=_OUTCOMES[done[0]])
    return done


async def _outcome(
    session: Session, name: bytes, spec: Spec, arguments: object
) -> tuple[bytes, bytes, bytes | None]:
    """Do a command; return status, text and response code of its tagged line."""
    try:
        if spec.states is State.SELECTED:
            if spec.announces:
                await session.catch_up()
            await session.check_sharing()
        if name in TELLING:
            with Telling(session):
                code = await spec.handler(session, arguments)
        else:
            code = await spec.handler(session, arguments)
    except ProtocolError as error:
        return b"BAD", str(error).encode("ascii", "replace"), error.code
    except Refused as refusal:
        return b"NO", refusal.text.encode("ascii"), refusal.code
    except MailError as error:
        known, text = CODES[type(error)]
        log.info(
            "command refused",
            extra={"session": session.id, "command": name.decode(), "reason": str(error)},
        )
        return b"NO", text, known
    except (Disconnected, TimedOut, ShuttingDown, ShutOut, Garbled):
        raise
    except Exception:
        log.exception("command failed", extra={"session": session.id, "command": name.decode()})
        return b"NO", b"Internal error", b"SERVERBUG"
    return b"OK", name + b" completed", code


def _with_limit(session: Session, status: bytes, code: bytes | None) -> bytes | None:
    """Tell with the OK that messages were left out, or before it when that has another code."""
    limited, session.limited = session.limited, None
    if limited is None or status != b"OK":
        return code
    if code is None:
        return limited
    session.send(status_line(b"*", b"OK", b"Older messages were left out", limited))
    return code


async def _synchronize(session: Session, spec: Spec) -> None:
    """Say what changed; when the store cannot be asked now, it is said with a later command."""
    try:
        await session.tell_news(may_expunge=spec.may_expunge, ask=spec.ask, demanded=spec.expunges)
    except Refused as refusal:  # BYE has been said; the command was done before
        log.info("let go", extra={"session": session.id, "reason": refusal.text})
    except MailError as error:
        session.behind = True
        log.warning("cannot look for changes", extra={"session": session.id, "reason": str(error)})


def _count(session: Session, name: bytes, status: bytes, seconds: float) -> None:
    took = None if name == b"IDLE" else seconds
    session.mail.metrics.note("imap", name.decode("ascii"), _OUTCOMES[status], took)
