"""Commands about the connection, not about mail: CAPABILITY NOOP LOGOUT STARTTLS and more."""

import logging

from mailserver.imap.commands.capabilities import ENABLEABLE, capability_list, jmap_session
from mailserver.imap.commands.condstore import make_aware
from mailserver.imap.commands.context import end_numbered
from mailserver.imap.protocol import responses
from mailserver.imap.protocol.connection import Bare, Enable, Id, Language, chosen_language
from mailserver.imap.protocol.errors import ProtocolError
from mailserver.imap.selected import Refused
from mailserver.imap.session import Session
from mailserver.mail import mailboxes

log = logging.getLogger(__name__)


async def capability(session: Session, command: Bare) -> None:
    """Say what the server can do (RFC 3501 §6.1.1)."""
    session.untagged(b"CAPABILITY " + capability_list(session))


async def noop(session: Session, command: Bare) -> None:
    """Do nothing: what changed is said after every command (RFC 3501 §6.1.2)."""


async def logout(session: Session, command: Bare) -> None:
    """Say good-bye (RFC 3501 §6.1.3)."""
    session.unselect()
    session.bye(b"Logging out")


async def unauthenticate(session: Session, command: Bare) -> bytes:
    """Go back to before the login, on the same connection (RFC 8437 §3)."""
    session.log_out()
    return b"CAPABILITY " + capability_list(session)


async def identify(session: Session, command: Id) -> None:
    """Exchange names, for statistics and bug reports only (RFC 2971 §3.1)."""
    shown = {
        name.decode("ascii", "replace")[:30]: (value or b"").decode("utf-8", "replace")[:200]
        for name, value in command.fields
    }
    log.info("client", extra={"session": session.id, "client": shown})
    session.untagged(b'ID ("name" "mailserver")')


async def language(session: Session, command: Language) -> None:
    """Choose the language of texts, which are all English (RFC 5255 §3.2)."""
    if not command.ranges:
        session.untagged(b"LANGUAGE (EN i-default)")
        return
    chosen = chosen_language(command.ranges)
    if chosen is None:
        raise Refused(None, "Unsupported language")
    session.untagged(b"LANGUAGE (%b)" % chosen)


async def get_jmap_access(session: Session, command: Bare) -> None:
    """Tell where the same mail can be had by JMAP (RFC 9698)."""
    url = jmap_session(session)
    if not url:
        raise ProtocolError("No JMAP server is known")
    session.untagged(b"JMAPACCESS " + responses.string(url.encode()))


async def start_tls(session: Session, command: Bare) -> bytes | None:
    """Go on under TLS (RFC 3501 §6.2.1); nothing that was said before counts."""
    if not session.channel.can_start_tls:
        raise Refused(None, "TLS is not available")
    return None


async def negotiate(session: Session) -> None:
    """Begin TLS, after the OK of STARTTLS."""
    await session.channel.start_tls()


async def compress(session: Session, command: Bare) -> None:
    """Go on compressed in both directions (RFC 4978 §3)."""
    if session.channel.compressed:
        raise Refused(b"COMPRESSIONACTIVE", "DEFLATE is active already")


async def begin_compression(session: Session) -> None:
    """Compress what follows the OK of COMPRESS."""
    session.channel.compress()


async def end_compression(session: Session) -> None:
    """Compress nothing that follows the OK of UNAUTHENTICATE (RFC 8437 §4.1)."""
    if session.channel.compressed:
        session.channel.end_compression()


async def enable(session: Session, command: Enable) -> None:
    """Switch on what the client is ready for and the server has (RFC 5161 §3.1)."""
    known = [name for name in ENABLEABLE if name.upper() in command.capabilities]
    session.untagged(b" ".join([b"ENABLED", *known]))
    if b"CONDSTORE" in known or b"QRESYNC" in known:
        await make_aware(session)
    if b"UIDONLY" in known:
        end_numbered(session)
    session.enabled.update(known)


async def namespace(session: Session, command: Bare) -> None:
    """Tell where one's own mailboxes are, and those of others (RFC 2342 §5)."""
    delimiter = responses.string(responses.DELIMITER.encode("ascii"))
    others = responses.string(f"{mailboxes.OTHERS}{responses.DELIMITER}".encode("ascii"))
    session.untagged(b'NAMESPACE (("" %b)) ((%b %b)) NIL' % (delimiter, others, delimiter))
