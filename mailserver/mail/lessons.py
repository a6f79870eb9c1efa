"""What users teach the content filter by moving messages and setting keywords, IMAP and JMAP alike.

It is noted in the transaction of the change itself: a lesson is lost or doubled no sooner than the
change. Who learns it works behind that (`antispam.content`).
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from mailserver.mail.context import Change
from mailserver.model import EmailId, MailboxId, Membership, flag_bit
from mailserver.storage import lessons

JUNK = flag_bit("$Junk") or 0
NOT_JUNK = flag_bit("$NotJunk") or 0
TEACHING = JUNK | NOT_JUNK


class Flagged(NamedTuple):
    """Emails whose flags changed alike."""

    emails: Sequence[int]
    old: int  # bits of flags
    new: int


def teaches(old: int, new: int) -> bool:
    """Tell whether a change of flags says something about spam."""
    return bool((old ^ new) & TEACHING)


def _opinion(bits: int) -> bool | None:
    """Return what keywords say; both together say nothing."""
    said = bits & TEACHING
    return None if said in (0, TEACHING) else said == JUNK


async def of_flags(change: Change, flagged: Iterable[Flagged]) -> None:
    """Note what changes of $Junk and $NotJunk say."""
    said: dict[bool | None, list[int]] = {}
    for emails, old, new in flagged:
        if teaches(old, new) and _opinion(old) is not _opinion(new):
            said.setdefault(_opinion(new), []).extend(emails)
    for spam, emails in said.items():
        await lessons.note(change.tx, change.account, emails, spam, change.now)


async def of_move(
    change: Change, rows: Sequence[Membership], source: MailboxId, target: MailboxId
) -> None:
    """Note what a copy or a move says."""
    emails = [row.email_id for row in rows]
    await lessons.note_moves(change.tx, change.account, emails, source, target, change.now)


async def of_arrival(change: Change, emails: Sequence[EmailId], mailbox: MailboxId) -> None:
    """Note that emails that came from another account were put into Junk."""
    await lessons.note_junk(change.tx, change.account, emails, mailbox, change.now)
