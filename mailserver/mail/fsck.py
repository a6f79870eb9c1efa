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
OBJECT_MISSING = "every object that a blob names is there"
OBJECT_UNKNOWN = "every object belongs to a blob"


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
        async for name, size in objects_without_rows(mail, settled):
            yield Difference(OBJECT_UNKNOWN, f"{name}, {size} bytes")


async def _rows_to_objects(mail: "Mail", *, contents: bool) -> AsyncIterator[Difference]:
    """Look for the object of every blob that has one, and with `contents` verify each body."""
    after = (-(2**63), b"")
    while rows := await bodies.page(mail.database, after, PAGE):
        for location, _, here in rows:
            if location.object is not None:
                size = await mail.blobs.size(location.object)
                if size is None or size < location.offset + location.length:
                    yield Difference(OBJECT_MISSING, named(location))
                    continue
            if contents and not await _intact(mail, location, here):
                yield Difference("every body has the hash it was stored under", named(location))
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


async def objects_without_rows(mail: "Mail", settled: timedelta) -> AsyncIterator[tuple[str, int]]:
    """Give the objects that no blob names, with their bytes."""
    young = mail.ids.first_at(mail.now() - settled)
    async for names in mail.blobs.names():
        known = await bodies.objects_known(mail.database, [name for name, _ in names])
        for name, size in names:
            if name not in known and (not settled or (object_made(name) or 0) < young):
                yield name, size


def named(location: Location) -> str:
    """Return how a body is called in a difference."""
    return f"blob {location.id.hex()} of account {location.account_id}"
