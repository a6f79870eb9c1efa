"""UIDBATCHES."""

from dataclasses import replace

from mailserver.imap.protocol.uidbatches import UidBatches, uidbatches
from mailserver.imap.selected import Refused
from mailserver.imap.session import Session

MIN_BATCH = 10  # messages; RFC 10022 wants 500 and more to be possible


async def uid_batches(session: Session, command: UidBatches) -> None:
    """Tell by which UIDs the mailbox can be worked on in steps (RFC 10022)."""
    if command.size < MIN_BATCH:
        raise Refused(b"TOOFEW", f"A batch has at least {MIN_BATCH} messages")
    limit = session.mail.config.imap.message_limit
    if limit:  # what a batch is for is done by one command
        command = replace(command, size=min(command.size, limit))
    view = session.open.view
    session.untagged(uidbatches(session.tag, view.uids[: view.count], command))
