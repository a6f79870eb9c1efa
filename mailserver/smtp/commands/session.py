"""RSET, NOOP, VRFY, HELP and QUIT (RFC 5321 §4.1.1.5 to §4.1.1.10)."""

from mailserver.smtp.protocol import replies
from mailserver.smtp.protocol.replies import SYNTAX, Refused, Reply
from mailserver.smtp.session import Session

CANNOT_VERIFY = Reply(252, "2.1.5", "Cannot VRFY user, but will take message and attempt delivery")
HELP = Reply(
    214,
    "2.0.0",
    "Commands: EHLO HELO STARTTLS AUTH MAIL RCPT DATA BDAT RSET NOOP VRFY HELP QUIT",
    ("See RFC 5321",),
)


def parse_nothing(argument: str) -> None:
    """Read no argument; blanks are not one (RFC 5321 §4.1.1)."""
    if argument.strip(" \t"):
        raise Refused(SYNTAX)


def parse_anything(argument: str) -> str:
    """Read an optional argument that means nothing."""
    return argument


def parse_something(argument: str) -> str:
    """Read an argument that must be there."""
    if not argument.strip(" "):
        raise Refused(SYNTAX)
    return argument


async def rset(session: Session, _: None) -> Reply:
    """Forget the mail transaction (RFC 5321 §4.1.1.5)."""
    session.reset()
    return replies.OK


async def noop(session: Session, _: str) -> Reply:
    """Do nothing (RFC 5321 §4.1.1.9)."""
    return replies.OK


async def vrfy(session: Session, _: str) -> Reply:
    """Tell nobody which users there are (RFC 5321 §7.3)."""
    return CANNOT_VERIFY


async def help_(session: Session, _: str) -> Reply:
    """Name the commands (RFC 5321 §4.1.1.8)."""
    return HELP


async def quit_(session: Session, _: None) -> Reply:
    """Say goodbye; the connection ends after the reply (RFC 5321 §4.1.1.10)."""
    return replies.BYE
