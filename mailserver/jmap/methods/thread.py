"""Thread/get (RFC 8621 §3)."""

from mailserver.jmap.methods.changes import visible
from mailserver.jmap.methods.get import Get, got, too_many_objects, wanted
from mailserver.jmap.protocol import properties
from mailserver.jmap.protocol.ids import email_text, thread_text
from mailserver.jmap.session import Session
from mailserver.mail import messages
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
    members = await messages.thread_emails(session.mail, session.account, numbers)
    there = await visible(session, {email for emails in members.values() for email in emails})
    found: dict[int, object] = {}
    for thread, emails in members.items():
        email_ids = [email_text(email) for email in emails if email in there]
        if email_ids:
            values = {"id": thread_text(thread), "emailIds": email_ids}
            found[thread] = {name: value for name, value in values.items() if name in shown}
    return await got(session, ids, found)
