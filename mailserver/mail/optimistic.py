"""Changes worked out from a listing in memory, and made in one statement.

A listing says what is in a mailbox as of a modseq. Every change of an account takes the next one,
so a statement that goes on only if the account still has that modseq needs no lock before it,
nothing to be read, and no transaction around it: a STORE of one flag makes one round trip instead
of six. When the account has changed, nothing is written, and the change is made the ordinary way.
"""

from array import array
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mailserver.mail import flags as ordinary
from mailserver.mail import listings, messages
from mailserver.mail.flags import Restamp, Stored
from mailserver.mail.listings import Listing
from mailserver.mail.rights import limited
from mailserver.model import (
    ALL_RIGHTS,
    DELETED,
    HIDDEN,
    SEEN,
    SHOWN,
    FlagChange,
    Flags,
    Modseq,
    Right,
)
from mailserver.storage import accounts
from mailserver.storage import flags as flag_table
from mailserver.storage.expunge import Leaving, expunge_known
from mailserver.storage.flags import Group, Restamped
from mailserver.storage.messages import Packed, combined

if TYPE_CHECKING:
    from mailserver.mail.context import Mail

FEW = 64  # messages; of more, one argument for each costs more than the round trips


async def store(
    mail: "Mail",
    listing: Listing,
    uids: Sequence[int],
    mode: FlagChange,
    flags: Flags,
    *,
    heard: int,
    rights: Right = ALL_RIGHTS,
    unchanged_since: int | None = None,
) -> Stored:
    """Change flags as `messages.store` does, and bring the listing up to date.

    `heard` is the newest modseq that the account is known to have.
    """
    if len(uids) <= FEW:
        if heard > listing.modseq:
            await listings.refresh(mail, listing)
        stored = await _store(mail, listing, uids, mode, flags, rights, unchanged_since)
        if stored is not None:
            return stored
    stored = await ordinary.store(
        mail,
        listing.account,
        listing.mailbox_id,
        uids,
        mode,
        flags,
        rights=rights,
        unchanged_since=unchanged_since,
    )
    if stored.modseq or stored.refused:
        await listings.follow(mail, listing, stored)
    return stored


async def _store(
    mail: "Mail",
    listing: Listing,
    uids: Sequence[int],
    mode: FlagChange,
    flags: Flags,
    rights: Right,
    unchanged_since: int | None,
) -> Stored | None:
    """Change flags if the account is as the listing says; None when it is not."""
    async with listing.lock:
        restamps, refused = [], []
        for uid in uids:
            index = listing.index(uid)
            if index is None:
                return None
            if unchanged_since is not None and listing.modseqs[index] > unchanged_since:
                refused.append(uid)
                continue
            old = listing.flags_of(index)
            new = limited(old, combined(old, mode, flags), rights)
            if new != old:
                restamps.append(Restamp(_alone(listing, index, old), new))
        if not restamps:
            now = await accounts.modseq(mail.database, listing.account)
            return Stored(refused=sorted(refused)) if now == listing.modseq else None
        modseq = Modseq(listing.modseq + 1)
        written = await flag_table.write_known(
            mail.database,
            listing.account,
            listing.mailbox_id,
            modseq,
            [_row(each) for each in restamps],
            unseen=sum((not each.new.bits & SEEN) - (not _old(each) & SEEN) for each in restamps),
            deleted=sum(
                bool(each.new.bits & DELETED) - bool(_old(each) & DELETED) for each in restamps
            ),
            now=mail.now(),
        )
        if not written:
            return None
        listing.restamp(restamps, modseq)
    mail.events.publish(listing.account, modseq)
    return Stored(modseq, restamps, sorted(refused))


async def expunge(
    mail: "Mail", listing: Listing, uids: Sequence[int] | None, *, heard: int
) -> list[int]:
    """Remove messages as `messages.expunge` does, and bring the listing up to date."""
    if heard > listing.modseq:
        await listings.refresh(mail, listing)
    gone = await _expunge(mail, listing, uids)
    if gone is None:
        gone = await messages.expunge(mail, listing.account, listing.mailbox_id, uids)
    return gone


async def _expunge(mail: "Mail", listing: Listing, uids: Sequence[int] | None) -> list[int] | None:
    """Remove messages if the account is as the listing says; None when it is not."""
    async with listing.lock:
        places = range(len(listing)) if uids is None else map(listing.index, uids)
        marked = [at for at in places if at is not None and listing.flags[at] & DELETED]
        if not 0 < len(marked) <= FEW:
            return None
        modseq = Modseq(listing.modseq + 1)
        rows = [
            Leaving(listing.uids[at], listing.email_ids[at], listing.thread_ids[at])
            for at in marked
        ]
        written = await expunge_known(
            mail.database,
            listing.account,
            listing.mailbox_id,
            modseq,
            rows,
            unseen=sum(not listing.flags[at] & SEEN for at in marked),
            size=sum(listing.sizes[at] for at in marked),
            now=mail.now(),
        )
        if not written:
            return None
        listing.merge(Packed.empty(), [(modseq, row.uid) for row in rows], modseq)
    mail.events.publish(listing.account, modseq)
    return [row.uid for row in rows]


def _alone(listing: Listing, index: int, flags: Flags) -> Group:
    return Group(
        listing.mailbox_id,
        flags,
        array("q", (listing.uids[index],)),
        array("q", (listing.email_ids[index],)),
        array("q", (listing.thread_ids[index],)),
        array("q", (listing.modseqs[index],)),
    )


def _old(restamp: Restamp) -> int:
    return restamp.group.flags.bits


def _row(restamp: Restamp) -> Restamped:
    group, new = restamp
    shown = bool(_old(restamp) & DELETED) - bool(new.bits & DELETED)
    return Restamped(
        group.uids[0],
        group.email_ids[0],
        group.thread_ids[0],
        new.bits,
        " ".join(new.keywords),
        {1: SHOWN, -1: HIDDEN}.get(shown, ""),
    )
