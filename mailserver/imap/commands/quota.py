"""GETQUOTA GETQUOTAROOT."""

from mailserver.errors import NotFound
from mailserver.imap.protocol import quota as wire
from mailserver.imap.protocol.quota import GetQuota, GetQuotaRoot
from mailserver.imap.session import Session
from mailserver.mail import mailboxes, quota

ROOT = b""  # the one quota root: all mailboxes of the account; without a limit there is none


async def get_quota(session: Session, command: GetQuota) -> None:
    """Tell what a quota root uses and may use (RFC 9208 §4.1.1)."""
    used, limit = await quota.storage(session.mail, session.account)
    if command.root != ROOT or limit is None:
        raise NotFound("quota root")
    session.send(wire.quota(ROOT, used, limit))


async def get_quota_root(session: Session, command: GetQuotaRoot) -> None:
    """Tell the quota roots of a mailbox, there or to be made, and their use (RFC 9208 §4.1.2)."""
    path = mailboxes.normal_path(command.mailbox)
    used, limit = await quota.storage(session.mail, session.account)
    if limit is None:
        session.send(wire.quota_root(session.mailbox_name(path)))
        return
    session.send(wire.quota_root(session.mailbox_name(path), ROOT))
    session.send(wire.quota(ROOT, used, limit))
