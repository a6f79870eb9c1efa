"""LOGIN and AUTHENTICATE."""

import asyncio
import base64
import binascii
import logging
from collections.abc import Awaitable
from typing import TypeVar

from mailserver.auth import sasl
from mailserver.errors import AuthenticationFailed, Invalid, NotFound, Unavailable
from mailserver.imap.commands.capabilities import capability_list
from mailserver.imap.protocol.auth import Authenticate, Login
from mailserver.imap.protocol.errors import ProtocolError
from mailserver.imap.protocol.framing import LineTooLong
from mailserver.imap.selected import Refused
from mailserver.imap.session import Session, ShutOut
from mailserver.mail import accounts
from mailserver.model import Principal

_T = TypeVar("_T")

log = logging.getLogger(__name__)

MAX_FAILURES = 5  # failed logins on one connection
RECHECK = 60.0  # seconds between two looks whether a client that is logged in still may be


async def login(session: Session, command: Login) -> bytes:
    """Log in with name and password (RFC 3501 §6.2.3)."""
    _demand_privacy(session)
    try:
        user, password = command.user.decode(), command.password.decode()
    except UnicodeDecodeError:
        return _welcome(session, await _counted(session, _refuse("credentials must be UTF-8")))
    return await _verify(session, sasl.Credentials(user, password))


async def authenticate(session: Session, command: Authenticate) -> bytes:
    """Log in by a SASL exchange (RFC 3501 §6.2.2, RFC 4959)."""
    _demand_privacy(session)
    terms = session.authenticator.terms(session.channel.end_point)
    mechanism = sasl.start(command.mechanism, terms)
    if mechanism is None:
        raise Refused(b"CANNOT", "Unknown authentication mechanism")
    response = None if command.initial is None else _decoded(command.initial)
    while True:
        outcome = await _counted(session, _proceed(session, mechanism, response))
        if isinstance(outcome, sasl.Credentials):
            return await _verify(session, outcome)
        if isinstance(outcome, Principal):
            return _welcome(session, outcome)
        session.send(b"+ %b\r\n" % base64.b64encode(outcome.data))
        session.flush()
        line = await session.channel.line()
        if isinstance(line, LineTooLong) or len(line) > sasl.MAX_RESPONSE:
            raise ProtocolError("Response is too long")
        if line == b"*":
            raise ProtocolError("Authentication cancelled")
        response = _decoded(line)


async def recheck(session: Session) -> None:
    """Look now and then whether the account is still enabled; ShutOut when it is not."""
    now = asyncio.get_running_loop().time()
    if session.principal is None or now < session.recheck_at:
        return
    session.recheck_at = now + RECHECK
    try:
        account = await accounts.get(session.mail, session.account)
    except NotFound:
        raise ShutOut from None
    except Unavailable:
        return  # as all that is cut off from the store: it is looked at later
    if not account.enabled:
        raise ShutOut


def _demand_privacy(session: Session) -> None:
    if not session.login_allowed():
        raise Refused(b"PRIVACYREQUIRED", "Use TLS first")


def _decoded(text: bytes) -> bytes:
    if text == b"=":  # an initial response that is empty, RFC 4959 §3
        return b""
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        raise ProtocolError("Response is not base64") from None


async def _proceed(
    session: Session, mechanism: sasl.Mechanism, response: bytes | None
) -> sasl.Challenge | sasl.Credentials | Principal:
    peer = session.channel.peer
    try:
        return await session.authenticator.proceed(mechanism, response, peer=peer)
    except Invalid:
        raise AuthenticationFailed("malformed credentials") from None


async def _verify(session: Session, credentials: sasl.Credentials) -> bytes:
    if credentials.authorization:
        verified = _refuse("nobody may act for another account")
    else:
        verified = session.authenticator.verify(
            credentials.login, credentials.password, peer=session.channel.peer
        )
    return _welcome(session, await _counted(session, verified))


async def _refuse(reason: str) -> Principal:
    raise AuthenticationFailed(reason)


async def _counted(session: Session, attempt: Awaitable[_T]) -> _T:
    """Count failures, and let a client go that has too many."""
    try:
        return await attempt
    except AuthenticationFailed:
        session.mail.metrics.authentications.labels("imap", "failed").inc()
        session.failures += 1
        if session.failures >= MAX_FAILURES:
            session.bye(b"Too many failed logins")
        raise


def _welcome(session: Session, principal: Principal) -> bytes:
    session.log_in(principal)
    session.mail.metrics.authentications.labels("imap", "ok").inc()
    session.recheck_at = asyncio.get_running_loop().time() + RECHECK
    about = {"session": session.id, "account": principal.login, "peer": session.channel.peer}
    log.info("login", extra=about)
    return b"CAPABILITY " + capability_list(session)
