"""What clients may know of blobs: their sizes, where they are used, who may read them."""

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from mailserver.mail.sharing import Share
from mailserver.model import AccountId, BlobId, MailboxId
from mailserver.storage import blob_places, bodies
from mailserver.storage.blob_places import Use

__all__ = ["Use", "readable", "sizes", "uses"]

if TYPE_CHECKING:
    from mailserver.mail.context import Mail


async def sizes(mail: "Mail", account: AccountId, ids: Collection[BlobId]) -> Mapping[BlobId, int]:
    """Return the bytes of those of the blobs that are there."""
    found = await bodies.locations(mail.database, account, list(ids))
    return {blob: place.size for blob, place in found.items()}


async def readable(
    mail: "Mail", share: Share, ids: Collection[BlobId], reader: AccountId
) -> set[BlobId]:
    """Return the blobs of another's account that somebody may read.

    Those are the messages in mailboxes that they may read, and what they uploaded there.
    """
    blobs = list(ids)
    if not blobs:
        return set()
    found = await blob_places.uploaded_by(mail.database, share.account_id, blobs, reader)
    for use in await blob_places.uses(mail.database, share.account_id, blobs):
        if not share.readable.isdisjoint(use.mailbox_ids):
            found.add(use.blob_id)
    return found


async def uses(
    mail: "Mail",
    account: AccountId,
    ids: Sequence[BlobId],
    within: frozenset[MailboxId] | None = None,
) -> list[Use]:
    """Return the emails that have blobs as their content, by id; with `within` only there."""
    found = await blob_places.uses(mail.database, account, ids)
    if within is None:
        return found
    seen = [
        use._replace(mailbox_ids=[each for each in use.mailbox_ids if each in within])
        for use in found
    ]
    return [use for use in seen if use.mailbox_ids]
