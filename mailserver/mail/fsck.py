"""A recount of everything, and a comparison of rows with objects both ways."""

import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from mailserver.errors import MailError, NotFound
from mailserver.storage import bodies, fsck
from mailserver.storage.bodies import Location
from mailserver.storage.compression import decompress
from mailserver.storage.mover import object_made

if TYPE_CHECKING:
    from mailserver.mail.context import Mail

PAGE = 500


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that is not as it should be."""

    rule: str
    detail: str


async def check(
    mail: "Mail",
    *,
    objects: bool = True,
    contents: bool = False,
    settled: timedelta = timedelta(0),
) -> AsyncIterator[Difference]:
    """Recount rows; with `objects` look at each object; with `contents` read and hash everything.

    On a running server an object is written a moment before its row says so: those younger than
    `settled` are passed over.
    """
    async with mail.database.connection() as connection:
        async for rule, detail in fsck.differences(connection):
            yield Difference(rule, detail)
    if objects:
        async for difference in _rows_to_objects(mail, contents=contents):
            yield difference
        async for difference in _objects_to_rows(mail, settled):
            yield difference


async def _rows_to_objects(mail: "Mail", *, contents: bool) -> AsyncIterator[Difference]:
    """Look for the object of every blob that has one, and with `contents` verify each body."""
    after = (-(2**63), b"")
    while rows := await bodies.page(mail.database, after, PAGE):
        for location, _, here in rows:
            detail = f"blob {location.id.hex()} of account {location.account_id}"
            if location.object is not None:
                size = await mail.blobs.size(location.object)
                if size is None or size < location.offset + location.length:
                    yield Difference("every object that a blob names is there", detail)
                    continue
            if contents and not await _intact(mail, location, here):
                yield Difference("every body has the hash it was stored under", detail)
        after = (rows[-1][0].account_id, rows[-1][0].id)


async def _intact(mail: "Mail", location: Location, here: bool) -> bool:
    """Tell whether every copy of a body, in PostgreSQL and in S3, is what was stored."""
    copies: list[bytes] = []
    if here:
        copies.extend(
            (await bodies.hot(mail.database, location.account_id, [location.id])).values()
        )
    if location.object is not None:
        try:
            copies.append(await mail.blobs.get(location.object, location.offset, location.length))
        except NotFound:
            return False
    for data in copies:
        try:
            raw = decompress(data)
        except MailError:
            return False
        if hashlib.sha256(raw).digest() != location.id or len(raw) != location.size:
            return False
    return True


async def _objects_to_rows(mail: "Mail", settled: timedelta) -> AsyncIterator[Difference]:
    """Look for objects that no blob names."""
    young = mail.ids.first_at(mail.now() - settled)
    async for names in mail.blobs.names():
        known = await bodies.objects_known(mail.database, [name for name, _ in names])
        for name, size in names:
            if name not in known and (not settled or (object_made(name) or 0) < young):
                yield Difference("every object belongs to a blob", f"{name}, {size} bytes")
