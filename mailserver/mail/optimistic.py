"""Changes worked out from a listing in memory, and made in one statement.

A listing says what is in a mailbox as of a modseq. Every change of an account takes the next one,
so a statement that goes on only if the account still has that modseq needs no lock before it,
nothing to be read, and no transaction around it: a STORE of one flag makes one round trip instead
of six. When the account has changed, nothing is written; it is looked at and tried once more, and
then the change is made the ordinary way.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from mailserver.mail import deltas, listings, messages, transfers
from mailserver.mail import flags as ordinary
from mailserver.mail.flags import Restamp, Stored
from mailserver.mail.lessons import opinion
from mailserver.mail.listings import Listing
from mailserver.mail.messages import Copied
from mailserver.model import ALL_RIGHTS, DELETED, SEEN, FlagChange, Flags, Modseq, Place, Right
from mailserver.storage import flags as flag_table
from mailserver.storage.expunge import Leaving, expunge_known
from mailserver.storage.flags import Restamped, Restamping
from mailserver.storage.messages import Packed
from mailserver.storage.moves import Total, copy_known, move_known

if TYPE_CHECKING:
    from mailserver.mail.context import Mail

TRIES = 2  # to store by what the listing says; others were faster each time
FEW = 64  # messages that are named one by one: their statement costs PostgreSQL 0.1 ms less


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
    if heard > listing.modseq:
        await listings.refresh(mail, listing, heard=heard)
    for _ in range(TRIES):
        before = listing.modseq
        stored = await _store(mail, listing, uids, mode, flags, rights, unchanged_since)
        if stored is not None:
            return stored
        await listings.refresh(mail, listing, heard=before + 1)
        if listing.modseq == before:
            break  # that was not the reason
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
        groups = listing.groups(uids)
        if groups is None:
            return None
        restamps, refused = ordinary.restamped(
            groups, mode, flags, rights=rights, unchanged_since=unchanged_since
        )
        if not restamps:
            now = await mail.looks.modseq(listing.account)
            return Stored(refused=refused) if now == listing.modseq else None
        if any(opinion(each.group.flags, each.new) for each in restamps):
            return None  # what that says about spam is noted in the same transaction
        modseq = Modseq(listing.modseq + 1)
        if refused:  # they may have the flags of others, which are changed
            uids = sorted(uid for each in restamps for uid in each.group.uids)
        if not await _write(mail, listing, modseq, restamps, uids):
            return None
        listing.restamp(restamps, modseq)
    stamps = [(each.new, each.group.uids) for each in restamps]
    deltas.made(mail, listing.account, modseq, [deltas.Flagged(listing.mailbox_id, stamps)])
    mail.events.publish(listing.account, modseq)
    return Stored(modseq, restamps, refused)


async def _write(
    mail: "Mail",
    listing: Listing,
    modseq: Modseq,
    restamps: Sequence[Restamp],
    uids: Sequence[int],
) -> bool:
    """Write new flags of what is among some UIDs; False when the account is not as expected."""
    account, mailbox, now = listing.account, listing.mailbox_id, mail.now()
    unseen = sum(each.unseen for each in restamps)
    deleted = sum(each.deleted for each in restamps)
    count = sum(len(each.group.uids) for each in restamps)
    if count == 1:
        (row,) = _rows(restamps[0])
        return await flag_table.write_one(
            mail.database, account, mailbox, modseq, row, unseen=unseen, deleted=deleted, now=now
        )
    if count <= FEW:
        return await flag_table.write_known(
            mail.database,
            account,
            mailbox,
            modseq,
            [row for each in restamps for row in _rows(each)],
            unseen=unseen,
            deleted=deleted,
            now=now,
        )
    places = listing.places(uids)
    assert places is not None
    return await flag_table.write_spans(
        mail.database,
        account,
        mailbox,
        modseq,
        listing.spans(places),
        [_restamping(each) for each in restamps],
        unseen=unseen,
        deleted=deleted,
        now=now,
    )


def _rows(restamp: Restamp) -> Iterator[Restamped]:
    group, new = restamp
    words, visibility = " ".join(new.keywords), restamp.visibility
    for uid, email, thread in zip(group.uids, group.email_ids, group.thread_ids, strict=True):
        yield Restamped(uid, email, thread, new.bits, words, visibility)


def _restamping(restamp: Restamp) -> Restamping:
    old, new = restamp.group.flags, restamp.new
    return Restamping(
        old.bits, " ".join(old.keywords), new.bits, " ".join(new.keywords), restamp.visibility
    )


async def expunge(
    mail: "Mail", listing: Listing, uids: Sequence[int] | None, *, heard: int
) -> list[int]:
    """Remove messages as `messages.expunge` does, and bring the listing up to date."""
    if heard > listing.modseq:
        await listings.refresh(mail, listing, heard=heard)
    gone = await _expunge(mail, listing, uids)
    if gone is None:
        gone = await messages.expunge(mail, listing.account, listing.mailbox_id, uids)
    return gone


async def _expunge(mail: "Mail", listing: Listing, uids: Sequence[int] | None) -> list[int] | None:
    """Remove messages if the account is as the listing says; None when it is not."""
    async with listing.lock:
        found = range(len(listing)) if uids is None else map(listing.index, sorted(set(uids)))
        places = [at for at in found if at is not None]
        marked = [at for at in places if listing.flags[at] & DELETED]
        if not marked:  # as at almost every CLOSE
            now = await mail.looks.modseq(listing.account)
            return [] if now == listing.modseq else None
        modseq = Modseq(listing.modseq + 1)
        total = _total(listing, marked)
        columns = (listing.uids, listing.email_ids, listing.thread_ids)
        written = await expunge_known(
            mail.database,
            listing.account,
            listing.mailbox_id,
            modseq,
            [*map(Leaving, *(listings.picked(column, marked) for column in columns))],
            unseen=total.unseen,
            size=total.size,
            now=mail.now(),
        )
        if not written:
            return None
        gone = [listing.uids[at] for at in marked]
        listing.merge(Packed.empty(), [(modseq, uid) for uid in gone], modseq)
    deltas.made(mail, listing.account, modseq, [deltas.Left(listing.mailbox_id, gone)])
    mail.events.publish(listing.account, modseq)
    return gone


async def copy(
    mail: "Mail", listing: Listing, uids: Sequence[int], target: Place, *, heard: int
) -> Copied:
    """Put messages also into a mailbox as `transfers.copy` does; the listing stays up to date."""
    copied = await _transfer(mail, listing, uids, target, heard=heard, leave=False)
    if copied is not None:
        return copied
    source = transfers.Source(listing.account, listing.mailbox_id)
    return await transfers.copy(mail, source, uids, target)


async def move(
    mail: "Mail", listing: Listing, uids: Sequence[int], target: Place, *, heard: int
) -> Copied:
    """Take messages to a mailbox as `transfers.move` does, and bring the listing up to date."""
    moved = await _transfer(mail, listing, uids, target, heard=heard, leave=True)
    if moved is not None:
        return moved
    source = transfers.Source(listing.account, listing.mailbox_id)
    return await transfers.move(mail, source, uids, target)


async def _transfer(
    mail: "Mail", listing: Listing, uids: Sequence[int], target: Place, *, heard: int, leave: bool
) -> Copied | None:
    """Copy messages, with `leave` remove them here; None when it has to be done the ordinary way.

    That is so for another account, without all rights, or when the account is not as expected.
    """
    if target.account_id != listing.account or target.rights != ALL_RIGHTS:
        return None
    if heard > listing.modseq:
        await listings.refresh(mail, listing, heard=heard)
    async with listing.lock:
        places = listing.places(uids)
        if places is None or target.mailbox.id == listing.mailbox_id:
            return None
        modseq = Modseq(listing.modseq + 1)
        statement = move_known if leave else copy_known
        place = await statement(
            mail.database,
            listing.account,
            listing.mailbox_id,
            target.mailbox.id,
            modseq,
            listing.spans(places),
            _total(listing, places),
            mail.now(),
        )
        if place is None:
            return None
        gone = uids if leave else ()
        listing.merge(Packed.empty(), [(modseq, uid) for uid in gone], modseq)
    done: list[deltas.Delta] = [deltas.Touched(target.mailbox.id)]
    if leave:
        done.append(deltas.Left(listing.mailbox_id, uids))
    deltas.made(mail, listing.account, modseq, done)
    mail.events.publish(listing.account, modseq)
    targets = range(place.first_uid, place.first_uid + len(uids))
    return Copied(place.uidvalidity, list(uids), list(targets))


def _total(listing: Listing, places: Sequence[int]) -> Total:
    """Return what messages of a listing count for; the sums are made column by column."""
    flags, sizes = listings.picked(listing.flags, places), listings.picked(listing.sizes, places)
    seen = sum(map(SEEN.__and__, flags)) // SEEN
    deleted = sum(map(DELETED.__and__, flags)) // DELETED
    return Total(len(places), len(places) - seen, deleted, sum(sizes))
