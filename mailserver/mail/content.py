"""The bytes of messages: hot ones from PostgreSQL, the others from S3, verified."""

import asyncio
import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

from mailserver.errors import Corrupt, NotFound
from mailserver.mail import readings
from mailserver.mail.making import Given
from mailserver.model import AccountId, BlobId, EmailId
from mailserver.storage import bodies
from mailserver.storage.bodies import Location
from mailserver.storage.compression import decompress, decompress_in_thread

if TYPE_CHECKING:
    from mailserver.mail.context import Mail

K = TypeVar("K")
LARGE = 256 * 1024  # bytes compressed; larger ones are decompressed in a thread
PARALLEL = 8  # S3 reads at once for one request


async def content(mail: "Mail", account: AccountId, blob: bytes) -> bytes:
    """Return one whole message; NotFound, Unavailable, Corrupt."""
    return (await contents(mail, account, [blob]))[BlobId(blob)]


async def contents(mail: "Mail", account: AccountId, blobs: Sequence[bytes]) -> dict[BlobId, bytes]:
    """Return whole messages; NotFound when any is missing. Ask for 50 to 100 at a time."""
    wanted = [BlobId(blob) for blob in dict.fromkeys(blobs)]
    found = await _all_decompressed(await bodies.hot(mail.database, account, wanted))
    missing = [blob for blob in wanted if blob not in found]
    if missing:
        places = await bodies.locations(mail.database, account, missing)
        gate = asyncio.Semaphore(PARALLEL)

        async def one(blob: BlobId) -> bytes:
            async with gate:
                return await _cold(mail, account, blob, places.get(blob))

        found.update(zip(missing, await asyncio.gather(*map(one, missing)), strict=True))
    return found


async def of_emails(
    mail: "Mail", account: AccountId, ids: Sequence[int], *, keep: bool = False
) -> dict[EmailId, bytes]:
    """Return the whole messages of those emails that exist. Ask for 50 to 100 at a time.

    With `keep` they are kept for a while, for others are likely to read them too.
    """
    hot: dict[EmailId, bytes] = {}
    cold: dict[EmailId, BlobId] = {}
    for email, blob, data in await bodies.of_emails(mail.database, account, ids):
        if data is None:
            cold[email] = blob
        else:
            hot[email] = data
            if keep:
                mail.fresh.keep_read(account, email, data)
    found = await _all_decompressed(hot)
    if cold:
        read = await contents(mail, account, list(cold.values()))
        found.update((email, read[blob]) for email, blob in cold.items())
    return found


async def given(mail: "Mail", account: AccountId, ids: Sequence[int]) -> list[Given]:
    """Return those emails that exist as they are stored, as far as that is in PostgreSQL.

    What is only in S3 comes whole and verified. Ask for 50 to 100 at a time.
    """
    found: list[Given] = []
    cold: dict[EmailId, BlobId] = {}
    for email, blob, data in await bodies.of_emails(mail.database, account, ids):
        if data is None:
            cold[email] = blob
        else:
            found.append(Given(email, data, True))
    if cold:
        read = await contents(mail, account, list(cold.values()))
        found += [Given(email, read[blob], False) for email, blob in cold.items()]
    return found


async def of_email(
    mail: "Mail", account: AccountId, email: int, size: int, *, current: bool = False
) -> dict[EmailId, bytes]:
    """Return an email's message of so many octets, if it exists, among others perhaps.

    With `current` nothing is known to have left the account since the caller found it there.
    """
    known = mail.fresh.message(account, email) if current else None
    if known is not None:
        return {EmailId(email): known}
    if size > readings.SMALL:
        return await of_emails(mail, account, [email])
    return await mail.readings.message(account, email)


async def _cold(mail: "Mail", account: AccountId, blob: BlobId, place: Location | None) -> bytes:
    if place is None:
        raise NotFound("blob")
    if place.object is None:
        # dropped from PostgreSQL between the two queries? then it has an object; else it is lost
        hot = await bodies.hot(mail.database, account, [blob])
        if blob not in hot:
            raise Corrupt(f"blob {blob.hex()} is neither in PostgreSQL nor in S3")
        return await _decompressed(hot[blob])
    raw = await _decompressed(await mail.blobs.get(place.object, place.offset, place.length))
    if hashlib.sha256(raw).digest() != blob:
        raise Corrupt(f"object {place.object} is not what was stored")
    return raw


async def _all_decompressed(compressed: dict[K, bytes]) -> dict[K, bytes]:
    """Decompress values, and let others be served between them: together they may be large."""
    found: dict[K, bytes] = {}
    size = 0
    for key, data in compressed.items():
        if size > LARGE:
            size = 0
            await asyncio.sleep(0)
        size += len(data)
        found[key] = await _decompressed(data)
    return found


async def _decompressed(data: bytes) -> bytes:
    if len(data) > LARGE:
        return await asyncio.to_thread(decompress_in_thread, data)
    return decompress(data)
