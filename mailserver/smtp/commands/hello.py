"""EHLO, HELO and STARTTLS (RFC 5321 §4.1.1.1, RFC 3207)."""

import re
from collections.abc import Callable
from datetime import timedelta

from mailserver.auth import sasl
from mailserver.smtp.protocol import replies
from mailserver.smtp.protocol.replies import Refused, Reply
from mailserver.smtp.protocol.xclient import ATTRIBUTES
from mailserver.smtp.session import Session

MAX_NAME = 255  # octets, RFC 5321 §4.5.3.1.2
# QUIRK(many clients): names with underscores or of one label are taken, they are not verified
# anyway (RFC 5321 §4.1.4); what would break a Received field is not.
_NAME = re.compile(r"(?:\[[0-9A-Za-z.:%_-]+\]|[^\x00-\x20\x7f()<>@,;:\\\"\[\]]+)\Z")
NO_TLS = Reply(502, "5.5.1", "STARTTLS is not available")

EXTENSIONS: tuple[Callable[[Session], str | None], ...] = (
    lambda session: "PIPELINING",  # RFC 2920
    lambda session: f"SIZE {session.mail.config.smtp.max_message_size}",  # RFC 1870
    lambda session: "8BITMIME",  # RFC 6152
    lambda session: "SMTPUTF8",  # RFC 6531
    lambda session: "ENHANCEDSTATUSCODES",  # RFC 2034
    lambda session: "CHUNKING",  # RFC 3030 §2
    lambda session: "BINARYMIME",  # RFC 3030 §3
    # whoever delivers by LMTP is told at once and reports itself
    lambda session: None if session.speaks_lmtp else "DSN",  # RFC 3461
    lambda session: "REQUIRETLS" if session.tls else None,  # RFC 8689 §2
    lambda session: f"LIMITS RCPTMAX={session.mail.config.smtp.max_recipients}",  # RFC 9422
    lambda session: _future_release(session) if session.policy.authentication else None,
    lambda session: "DELIVERBY" if session.policy.authentication else None,  # RFC 2852
    lambda session: "MT-PRIORITY" if session.policy.authentication else None,  # RFC 6710
    lambda session: "STARTTLS" if session.wire.can_start_tls else None,  # RFC 3207
    lambda session: (
        f"AUTH {' '.join(sasl.offered(session.authenticator.terms(session.wire.end_point)))}"
        if session.policy.authentication and session.tls
        else None
    ),  # RFC 4954 §4; not in the clear, where passwords could be read
    lambda session: f"XCLIENT {' '.join(ATTRIBUTES)}" if session.relay_is_trusted else None,
)


def _future_release(session: Session) -> str | None:
    """Return the longest time that mail is held, and its end (RFC 4865 §4)."""
    seconds = session.mail.config.smtp.max_delay
    if not seconds:
        return None
    until = session.mail.now() + timedelta(seconds=seconds)
    return f"FUTURERELEASE {seconds} {until:%Y-%m-%dT%H:%M:%SZ}"


def parse(argument: str) -> str:
    """Domain / address-literal (RFC 5321 §4.1.1.1)."""
    name = argument.strip(" ")
    if not _NAME.match(name) or len(name.encode()) > MAX_NAME:
        raise Refused(Reply(501, "5.5.4", "A domain or an address literal is needed"))
    return name


async def ehlo(session: Session, name: str) -> Reply:
    """Begin anew and say what can be done (RFC 5321 §4.1.1.1)."""
    session.reset()
    session.helo = name
    session.esmtp = True
    await session.policy.greeted(session)
    offers = (offer(session) for offer in EXTENSIONS)
    return Reply(250, "", session.hostname, tuple(text for text in offers if text))


async def helo(session: Session, name: str) -> Reply:
    """Begin anew without extensions."""
    session.reset()
    session.helo = name
    session.esmtp = False
    await session.policy.greeted(session)
    return Reply(250, "", session.hostname)


async def starttls(session: Session, _: None) -> Reply | None:
    """Begin TLS and forget what was said before (RFC 3207 §4)."""
    if session.tls:
        return replies.BAD_SEQUENCE
    if not session.wire.can_start_tls:
        return NO_TLS
    await session.wire.start_tls()
    return None
