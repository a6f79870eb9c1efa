"""AUTH (RFC 4954)."""

import base64
import binascii
import logging
from dataclasses import dataclass

from mailserver.auth import sasl
from mailserver.auth.sasl import Challenge, Credentials
from mailserver.errors import AuthenticationFailed, Invalid, TooMany, Unavailable
from mailserver.model import Principal
from mailserver.smtp.protocol import replies
from mailserver.smtp.protocol.replies import SYNTAX, Refused, Reply
from mailserver.smtp.session import Session

log = logging.getLogger(__name__)

NOT_HERE = Reply(502, "5.5.1", "AUTH is not available")
NEEDS_TLS = Reply(538, "5.7.11", "Encryption required for requested authentication mechanism")
NO_MECHANISM = Reply(504, "5.5.4", "Unrecognized authentication mechanism")
CANCELLED = Reply(501, "5.7.0", "Authentication cancelled")
BAD_RESPONSE = Reply(501, "5.5.2", "Cannot decode the response")
SUCCEEDED = Reply(235, "2.7.0", "Authentication successful")
FAILED = Reply(535, "5.7.8", "Authentication credentials invalid")
LATER = Reply(454, "4.7.0", "Temporary authentication failure")


@dataclass(frozen=True, slots=True)
class Auth:
    """The mechanism, and the initial response when there is one."""

    mechanism: str
    initial: bytes | None


def parse(argument: str) -> Auth:
    """Auth-command = "AUTH" SP sasl-mech [SP initial-response] (RFC 4954 §8)."""
    words = argument.split()
    if not 1 <= len(words) <= 2:
        raise Refused(SYNTAX)
    if len(words) == 1:
        return Auth(words[0], None)
    return Auth(words[0], b"" if words[1] == "=" else _decode(words[1].encode()))


async def auth(session: Session, command: Auth) -> Reply:
    """Find out who the client is."""
    refusal = _refusal(session)
    if refusal is not None:
        return refusal
    login, reply, outcome = await _identify(session, command)
    session.mail.metrics.authentications.labels("smtp", outcome).inc()
    log.log(
        logging.INFO if reply is SUCCEEDED else logging.WARNING,
        "authentication",
        extra={
            "session": session.id,
            "peer": session.peer,
            "account": login,
            "outcome": outcome,
        },
    )
    return reply


def _refusal(session: Session) -> Reply | None:
    if not session.policy.authentication:
        return NOT_HERE
    if not session.tls:
        return NEEDS_TLS
    if not session.esmtp or session.principal or session.envelope:
        return replies.BAD_SEQUENCE
    return None


async def _identify(session: Session, command: Auth) -> tuple[str, Reply, str]:
    """Run the exchange and check what it gave; return the login, the reply and the outcome."""
    login = ""
    try:
        found = await _exchange(session, command)
        login = found.login
        if isinstance(found, Credentials):
            found = await _verified(session, found)
    except AuthenticationFailed:
        return login, FAILED, "failed"
    except TooMany:
        return login, LATER, "throttled"
    except Unavailable:
        return login, LATER, "unavailable"
    session.principal = found
    return login, SUCCEEDED, "ok"


async def _exchange(session: Session, command: Auth) -> Credentials | Principal:
    """Run the mechanism to its end."""
    terms = session.authenticator.terms(session.wire.end_point)
    mechanism = sasl.start(command.mechanism, terms)
    if mechanism is None:
        raise Refused(NO_MECHANISM)
    response = command.initial
    try:
        while True:
            outcome = await session.authenticator.proceed(mechanism, response, peer=session.peer)
            if not isinstance(outcome, Challenge):
                return outcome
            challenge = base64.b64encode(outcome.data).decode()
            line = await session.wire.ask(Reply(334, "", challenge))
            if line == b"*":
                raise Refused(CANCELLED)
            response = _decode(line)
    except Invalid:
        raise Refused(BAD_RESPONSE) from None


async def _verified(session: Session, credentials: Credentials) -> Principal:
    if credentials.authorization:
        raise AuthenticationFailed("nobody may act for another account")
    return await session.authenticator.verify(
        credentials.login, credentials.password, peer=session.peer
    )


def _decode(text: bytes) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise Refused(BAD_RESPONSE) from None
