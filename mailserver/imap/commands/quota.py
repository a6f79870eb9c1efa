"""GETQUOTA GETQUOTAROOT."""

from mailserver.errors import NotFound
from mailserver.imap.protocol import quota as wire
from mailserver.imap.protocol.quota import GetQuota, GetQuotaRoot
from mailserver.imap.session import Session
from mailserver.mail import access, quota

OWN = b""  # the root of all own mailboxes; that of another's is their login; without a limit none


async def get_quota(session: Session, command: GetQuota) -> None:
    """Tell what a quota root uses and may use (RFC 9208 §4.1.1)."""
    account = session.account
    if command.root != OWN:
        login = command.root.decode("utf-8", "replace")
        account = await access.sharer(session.mail, session.user, login)
    used, limit = await quota.storage(session.mail, account)
    if limit is None:
        raise NotFound("quota root")
    session.send(wire.quota(command.root, used, limit))


async def get_quota_root(session: Session, command: GetQuotaRoot) -> None:
    """Tell the quota roots of a mailbox, and their use (RFC 9208 §4.1.2, §6).

    One's own mailbox need not be there; another's must be readable.
    """
    path, account, login = await access.quota_of(session.mail, session.user, command.mailbox)
    root = OWN if login is None else login.encode()
    used, limit = await quota.storage(session.mail, account)
    if limit is None:
        session.send(wire.quota_root(session.mailbox_name(path)))
        return
    session.send(wire.quota_root(session.mailbox_name(path), root))
    session.send(wire.quota(root, used, limit))
