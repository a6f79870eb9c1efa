"""What users teach the content filter by moving messages and setting keywords, IMAP and JMAP alike.

It is noted in the transaction of the change itself: a lesson is lost or doubled no sooner than the
change. Who learns it works behind that (`antispam.content`).
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from mailserver.mail.context import Change
from mailserver.model import EmailId, Flags, MailboxId, Membership, flag_bit
from mailserver.storage import lessons

JUNK = flag_bit("$Junk") or 0
NOT_JUNK = flag_bit("$NotJunk") or 0
TEACHING = JUNK | NOT_JUNK


# QUIRK(Thunderbird): it sets keywords of its own, and leaves the registered ones as they are
_OTHER_WORDS = {"junk": JUNK, "nonjunk": NOT_JUNK, "notjunk": NOT_JUNK}


class Flagged(NamedTuple):
    """Emails whose flags changed alike."""

    emails: Sequence[int]
    old: Flags
    new: Flags


class Opinion(NamedTuple):
    """What somebody says of a message now."""

    spam: bool | None  # None: nothing any more


def opinion(old: Flags, new: Flags) -> Opinion | None:
    """Return what a change of flags says about spam; None: nothing new.

    The registered keywords and those of Thunderbird are two voices: the one that spoke last counts,
    and when it takes back what it said, the other one.
    """
    if not (old.bits ^ new.bits) & TEACHING and old.keywords == new.keywords:
        return None
    before, after = _voices(old), _voices(new)
    spoke = [now for then, now in zip(before, after, strict=True) if then is not now]
    if not spoke:
        return None
    said = next((each for each in (*spoke, *after) if each is not None), None)
    return Opinion(said) if {*before} - {None} != {said} - {None} else None


def _voices(flags: Flags) -> tuple[bool | None, bool | None]:
    """Return what the registered keywords say, and what the others say."""
    others = 0
    for keyword in flags.keywords:
        others |= _OTHER_WORDS.get(keyword.lower(), 0)
    return _voice(flags.bits & TEACHING), _voice(others)


def _voice(said: int) -> bool | None:
    """Return what one kind of keywords says; both together say nothing."""
    return None if said in (0, TEACHING) else said == JUNK


async def of_flags(change: Change, flagged: Iterable[Flagged]) -> None:
    """Note what changes of keywords say."""
    said: dict[bool | None, list[int]] = {}
    for emails, old, new in flagged:
        found = opinion(old, new)
        if found is not None:
            said.setdefault(found.spam, []).extend(emails)
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
