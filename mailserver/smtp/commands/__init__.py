"""The SMTP commands: one row each, and the one place where they are run, timed and counted."""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from mailserver.errors import Corrupt, MailError, Unavailable
from mailserver.smtp.commands import auth, data, hello, mail, rcpt, session, xclient
from mailserver.smtp.commands.failures import reply_to
from mailserver.smtp.protocol import replies
from mailserver.smtp.protocol.bdat import parse as parse_bdat
from mailserver.smtp.protocol.replies import Refused, Reply
from mailserver.smtp.session import LMTP_GREETINGS, SMTP_GREETINGS, Disconnected, Session

log = logging.getLogger(__name__)

Parse = Callable[[str], Any]
Handler = Callable[[Session, Any], Awaitable[Reply | None]]  # None: everything is said already


@dataclass(frozen=True, slots=True)
class Spec:
    """How a command is read and what it does."""

    parse: Parse
    handler: Handler
    help: str


COMMANDS: dict[str, Spec] = {
    "EHLO": Spec(hello.parse, hello.ehlo, "EHLO domain"),
    "HELO": Spec(hello.parse, hello.helo, "HELO domain"),
    "LHLO": Spec(hello.parse, hello.ehlo, "LHLO domain"),
    "STARTTLS": Spec(session.parse_nothing, hello.starttls, "STARTTLS"),
    "AUTH": Spec(auth.parse, auth.auth, "AUTH mechanism [initial-response]"),
    "MAIL": Spec(mail.parse, mail.mail, "MAIL FROM:<reverse-path> [parameters]"),
    "RCPT": Spec(rcpt.parse, rcpt.rcpt, "RCPT TO:<forward-path> [parameters]"),
    "DATA": Spec(session.parse_nothing, data.data, "DATA"),
    "BDAT": Spec(parse_bdat, data.bdat, "BDAT chunk-size [LAST]"),
    "RSET": Spec(session.parse_nothing, session.rset, "RSET"),
    "NOOP": Spec(session.parse_anything, session.noop, "NOOP [string]"),
    "VRFY": Spec(session.parse_something, session.vrfy, "VRFY string"),
    "HELP": Spec(session.parse_anything, session.help_, "HELP"),
    "XCLIENT": Spec(xclient.parse, xclient.xclient, "XCLIENT attribute=value..."),
    "QUIT": Spec(session.parse_nothing, session.quit_, "QUIT"),
}

GREETINGS = SMTP_GREETINGS | LMTP_GREETINGS
MAX_ERRORS = 100  # in the weights below, before the connection is closed
BAD_COMMAND = 10  # ten bad commands
BAD_RECIPIENT = 1  # a list with dead addresses is no attack, a dictionary is
_BAD_CODES = frozenset({500, 501, 502, 503, 504, 535, 555})


async def run(session: Session, line: bytes) -> Reply | None:
    """Answer one command line: parse it, run its handler, count it, and log what fails."""
    verb, _, argument = line.partition(b" ")
    name = verb.decode("ascii", "replace").upper()
    spec = COMMANDS.get(name)
    if name in GREETINGS and name not in session.policy.greetings:  # RFC 2033 §4.1
        spec = None
    if spec is None:
        name = "unknown"
    began = session.clock()
    reply = await _answer(session, name, spec, argument)
    outcome = reply.outcome if reply else "ok"
    session.outcomes.note(name, outcome, session.clock() - began)
    return count(session, reply) if reply else None


def count(session: Session, reply: Reply) -> Reply:
    """Count a reply that is an error; the one too many ends the connection."""
    if reply.code < 500:
        return reply
    session.errors += BAD_COMMAND if reply.code in _BAD_CODES else BAD_RECIPIENT
    return replies.TOO_MANY_ERRORS if session.errors >= MAX_ERRORS else reply


async def _answer(session: Session, name: str, spec: Spec | None, argument: bytes) -> Reply | None:
    if spec is None:
        return replies.UNKNOWN_COMMAND
    try:
        return await spec.handler(session, spec.parse(argument.decode()))
    except UnicodeDecodeError:
        return replies.NOT_ASCII
    except Refused as refusal:
        return refusal.reply
    except MailError as error:
        level = logging.WARNING if isinstance(error, Unavailable | Corrupt) else logging.INFO
        log.log(
            level,
            "command failed",
            extra={"session": session.id, "command": name, "error": repr(error)},
        )
        return reply_to(error)
    except Disconnected:
        raise  # nobody is left to answer
    except Exception:
        log.exception("command crashed", extra={"session": session.id, "command": name})
        return replies.INTERNAL
