"""The octets that blob ids name."""

import asyncio

from mailserver.errors import NotFound
from mailserver.jmap.protocol.ids import parse_blob
from mailserver.jmap.session import AccountView, Session
from mailserver.mail import content
from mailserver.mime import decode_body

LARGE = 1024 * 1024  # octets; a larger part is decoded in a thread


async def read(session: Session, blob_id: str, view: AccountView | None = None) -> bytes | None:
    """Return the octets of a blob of the account, None when there is none that may be read."""
    name = parse_blob(session.resolved(blob_id))
    if name is None:
        return None
    try:
        raw = await content.content(session.mail, (view or session.view).id, name.blob_id)
    except NotFound:
        return None
    part = name.part
    if part is None:
        return raw
    end = part.start + part.length
    if end > len(raw):
        return None
    if part.length > LARGE:
        return await asyncio.to_thread(decode_body, raw[part.start : end], part.encoding)
    return decode_body(raw[part.start : end], part.encoding)
