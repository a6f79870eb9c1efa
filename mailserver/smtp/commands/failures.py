"""What a client is told when an operation fails: no text of an exception."""

from mailserver.errors import (
    AuthenticationFailed,
    Corrupt,
    Forbidden,
    Invalid,
    MailError,
    NotFound,
    OverQuota,
    TooLarge,
    TooMany,
    Unavailable,
)
from mailserver.smtp.protocol import replies
from mailserver.smtp.protocol.replies import Refused, Reply

REPLIES: dict[type[MailError], Reply] = {
    AuthenticationFailed: Reply(535, "5.7.8", "Authentication credentials invalid"),
    Corrupt: replies.INTERNAL,
    Forbidden: Reply(550, "5.7.1", "Not allowed"),
    Invalid: Reply(550, "5.6.0", "Message not valid"),
    # an account that went away between RCPT and DATA: the next attempt is told which
    NotFound: Reply(451, "4.2.1", "A mailbox is not available, try again later"),
    OverQuota: Reply(452, "4.2.2", "Mailbox full"),
    TooLarge: Reply(552, "5.3.4", "Message too big"),
    TooMany: Reply(451, "4.7.0", "Too many attempts, try again later"),
    Unavailable: replies.UNAVAILABLE,
}


def reply_to(error: Exception) -> Reply:
    """Return what is said about a failure; what nobody thought of is an internal error."""
    if isinstance(error, Refused):
        return error.reply
    return next(
        (REPLIES[kind] for kind in type(error).__mro__ if kind in REPLIES), replies.INTERNAL
    )
