"""Thread/get (RFC 8621 §3)."""

from mailserver.jmap.methods.get import Get, got, too_many_objects, wanted
from mailserver.jmap.protocol import properties
from mailserver.jmap.protocol.ids import email_text, thread_text
from mailserver.jmap.session import Session
from mailserver.mail import search
from mailserver.model import IdKind

PROPERTIES = ("id", "emailIds")


async def get(session: Session, asked: Get) -> dict[str, object]:
    """Return threads with their emails, oldest first (RFC 8621 §3.1)."""
    shown = properties.check_properties(asked.properties, PROPERTIES)
    if asked.ids is None:
        raise too_many_objects(session.limits.max_objects_in_get)
    ids = wanted(session, IdKind.THREAD, asked.ids)
    await session.state()
    numbers = [each for each in ids.values() if each is not None]
    members = await search.thread_members(
        session.mail, session.account, numbers, within=session.view.readable
    )
    found: dict[int, object] = {}
    for thread, emails in members.items():
        values = {"id": thread_text(thread), "emailIds": [email_text(each) for each in emails]}
        found[thread] = {name: value for name, value in values.items() if name in shown}
    return await got(session, ids, found)
