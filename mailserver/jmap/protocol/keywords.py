"""The properties keywords and mailboxIds (RFC 8621 §4.1.1)."""

import re

from mailserver.jmap.protocol.properties import WrongType, marks
from mailserver.model import Flags, IdKind, MailboxId, id_value

_KEYWORD = re.compile(r"[!-~]{1,255}")
_FORBIDDEN = frozenset('(){]%*"\\')
NOBODY = MailboxId(-1)  # an id that no mailbox has


def keyword(text: str) -> str:
    """Read one keyword, in lower case."""
    if not _KEYWORD.fullmatch(text) or _FORBIDDEN & set(text):
        raise WrongType("a map of keywords to true")
    return text.lower()


def keywords(value: object) -> Flags:
    """Read the property keywords."""
    return Flags.of_keywords(keyword(each) for each in marks(value))


def mailbox_id(text: str) -> MailboxId:
    """Read the id of a mailbox; what cannot be one is the id of none."""
    number = id_value(IdKind.MAILBOX, text)
    return NOBODY if number is None else MailboxId(number)


def mailbox_ids(value: object) -> frozenset[MailboxId]:
    """Read the property mailboxIds."""
    found = frozenset(mailbox_id(each) for each in marks(value))
    if not found:
        raise WrongType("a map with at least one mailbox")
    return found
