"""What is in the account that clients work on: put there, and looked at, past every protocol."""

import base64
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zlib import crc32

from mailserver.mail import content, delivery, listings, mailboxes, messages
from mailserver.mail.context import Mail
from mailserver.model import Account, EmailId, FlagChange, Flags

LOGIN = "alice@example.test"
PASSWORD = "correct horse"
BEGINNING = datetime(2026, 1, 31, 22, 30, 15, tzinfo=UTC)
# Names that clients have to quote, to encode and to nest.
FOLDERS = {
    "Two Words": 3,
    "Entwürfe & Ideen": 4,
    "Lists": 0,
    "Lists/日本語": 2,
    'say "hi"': 1,
    "empty": 0,
}
INBOX_COUNT = 12
ATTACHMENT = bytes(range(256)) * 5
# what mbsync, offlineimap and Thunderbird add to know a message again
_MARK = re.compile(rb"^X-(?:TUID|OfflineIMAP|Mozilla-[A-Za-z0-9]+): .*\n", re.MULTILINE)


@dataclass(frozen=True)
class Stored:
    """One message in a mailbox as the server has it."""

    uid: int
    flags: frozenset[str]
    received_at: datetime
    raw: bytes  # with LF line ends, without what clients add to know it again


def message(subject: str, *, number: int = 0, html: bool = False) -> bytes:
    """Make a message of a subject; with `html` it has an HTML part and an attachment."""
    head = (
        f"Date: Sat, 31 Jan 2026 {number % 24:02}:30:15 +0100\r\n"
        "From: =?utf-8?q?J=C3=BCrgen?= <juergen@example.org>\r\n"
        f"To: {LOGIN}\r\n"
        f"Subject: {subject}\r\n"
        f"Message-ID: <{number}.{crc32(subject.encode())}@example.org>\r\n"
        "MIME-Version: 1.0\r\n"
    ).encode()
    text = b"Gr\xc3\xbc\xc3\x9fe, number %d.\r\n.\r\nFrom here on:\r\n" % number
    text += b"x" * 70 * (number % 3) + b"\r\n" * number
    if not html:
        return head + b"Content-Type: text/plain; charset=utf-8\r\n\r\n" + text
    return (
        head
        + b'Content-Type: multipart/mixed; boundary="outer"\r\n\r\n'
        + b"--outer\r\nContent-Type: text/html; charset=utf-8\r\n\r\n<p>"
        + text
        + b"</p>\r\n--outer\r\nContent-Type: application/octet-stream; name=bytes\r\n"
        + b"Content-Disposition: attachment; filename=bytes\r\n"
        + b"Content-Transfer-Encoding: base64\r\n\r\n"
        + base64.encodebytes(ATTACHMENT).replace(b"\n", b"\r\n")
        + b"--outer--\r\n"
    )


async def put(
    mail: Mail,
    account: Account,
    path: str,
    raw: bytes,
    flags: Iterable[str] = (),
    received_at: datetime | None = None,
) -> None:
    """Let a message arrive in a mailbox."""
    mailbox = await mailboxes.by_path(mail, account.id, path)
    target = delivery.Target(account.id, mailbox.id, Flags.of(flags))
    await delivery.accept(mail, raw, [target], received_at=received_at or mail.now())


async def fill(mail: Mail, account: Account) -> None:
    """Give an account folders with mail of several kinds, flags and dates."""
    for path in FOLDERS:
        await mailboxes.create(mail, account.id, path)
        await mailboxes.subscribe(mail, account.id, path, True)
    flags = ((), ("\\Seen",), ("\\Seen", "\\Flagged"), ("\\Answered", "$Forwarded", "project-x"))
    number = 0
    for path, count in {"INBOX": INBOX_COUNT, **FOLDERS}.items():
        for _ in range(count):
            await put(
                mail,
                account,
                path,
                message(f"message {number}", number=number, html=number % 4 == 3),
                flags[number % len(flags)],
                BEGINNING + timedelta(hours=number),
            )
            number += 1


async def mark(mail: Mail, account: Account, path: str, uids: Sequence[int], flag: str) -> None:
    """Set a flag of messages."""
    mailbox = await mailboxes.by_path(mail, account.id, path)
    flags = Flags.of([flag])
    await messages.store(mail, account.id, mailbox.id, uids, FlagChange.ADD, flags)


async def remove(mail: Mail, account: Account, path: str, uids: Sequence[int]) -> None:
    """Delete messages."""
    mailbox = await mailboxes.by_path(mail, account.id, path)
    await mark(mail, account, path, uids, "\\Deleted")
    await messages.expunge(mail, account.id, mailbox.id, uids)


async def paths(mail: Mail, account: Account) -> set[str]:
    """Return the paths of all mailboxes."""
    return {mailbox.path for mailbox in await mailboxes.list_all(mail, account.id)}


async def subscribed(mail: Mail, account: Account) -> set[str]:
    """Return the paths of the mailboxes that are subscribed to."""
    return {each.path for each in await mailboxes.list_all(mail, account.id) if each.subscribed}


async def contents(mail: Mail, account: Account, path: str) -> list[Stored]:
    """Return the messages of a mailbox by UID."""
    mailbox = await mailboxes.by_path(mail, account.id, path)
    listing = await listings.open_listing(mail, account.id, mailbox.id)
    emails = await messages.emails(mail, account.id, list(listing.email_ids))
    found = []
    for index, email_id in enumerate(listing.email_ids):
        email = emails[EmailId(email_id)]
        raw = await content.content(mail, account.id, email.blob_id)
        flags = frozenset(listing.flags_of(index).names())
        found.append(Stored(listing.uids[index], flags, email.received_at, unmarked(raw)))
    return found


def unmarked(raw: bytes) -> bytes:
    """Return a message with LF line ends, without what clients add to know it again."""
    return _MARK.sub(b"", raw.replace(b"\r\n", b"\n"))


def body(raw: bytes) -> bytes:
    """Return what follows the header, with LF line ends; some clients add fields to the header."""
    return raw.replace(b"\r\n", b"\n").partition(b"\n\n")[2]


async def everything(mail: Mail, account: Account) -> dict[str, list[Stored]]:
    """Return all messages of an account by path."""
    return {path: await contents(mail, account, path) for path in await paths(mail, account)}


async def flags_of(mail: Mail, account: Account, path: str, subject: str) -> frozenset[str]:
    """Return the flags of the one message with that subject."""
    line = b"Subject: " + subject.encode() + b"\n"
    [found] = [each for each in await contents(mail, account, path) if line in each.raw]
    return found.flags


async def subjects(mail: Mail, account: Account, path: str) -> list[str]:
    """Return the subjects of the messages of a mailbox by UID."""
    found = [
        re.search(rb"^Subject: (.*)$", each.raw, re.MULTILINE)
        for each in await contents(mail, account, path)
    ]
    return [match[1].decode() if match else "" for match in found]
