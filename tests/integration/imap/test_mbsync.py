"""mbsync pulls a mailbox into a Maildir and carries changes both ways."""

import asyncio
import itertools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mailserver.mail import content, listings, mailboxes, messages
from mailserver.mail.context import Mail
from mailserver.model import SEEN, Account, EmailId

_MARK = re.compile(rb"^X-TUID: .*\n", re.MULTILINE)  # what mbsync adds to know a message again
RC = """
IMAPAccount server
Host localhost
Port {port}
User alice@example.test
Pass "correct horse"
SSLType IMAPS
CertificateFile {ca}

IMAPStore remote
Account server

MaildirStore local
Path {folder}/
Inbox {folder}/INBOX
SubFolders Verbatim

Channel all
Far :remote:
Near :local:
Patterns INBOX Archive
Create Near
Expunge Both
SyncState *
"""


async def _run(command: Sequence[str]) -> str:
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await asyncio.wait_for(process.communicate(), 60)
    text = said.decode(errors="replace")
    assert process.returncode == 0, text
    return text


def _octets(path: Path) -> bytes:
    return _MARK.sub(b"", path.read_bytes())


def _mails(folder: Path) -> list[Path]:
    return sorted(itertools.chain((folder / "cur").iterdir(), (folder / "new").iterdir()))


async def _remote(mail: Mail, account: Account, path: str) -> dict[bytes, int]:
    """Return the messages of a mailbox with LF line ends, and their flags."""
    mailbox = await mailboxes.by_path(mail, account.id, path)
    listing = await listings.open_listing(mail, account.id, mailbox.id)
    emails = await messages.emails(mail, account.id, list(listing.email_ids))
    found = {}
    for email, flags in zip(listing.email_ids, listing.flags, strict=True):
        raw = await content.content(mail, account.id, emails[EmailId(email)].blob_id)
        found[_MARK.sub(b"", raw.replace(b"\r\n", b"\n"))] = flags
    return found


async def test_mbsync(
    servers: Any, tls: Any, mail: Mail, alice: Account, deliver: Any, tmp_path: Path
) -> None:
    for number in range(50):
        flags = ["\\Seen"] if number % 2 else []
        body = b"x\r\n" * (number * 40)
        await deliver(
            b"Subject: %d\r\nFrom: a@example.org\r\n\r\n\xfc .\r\n" % number + body, *flags
        )
    port = await servers.start(implicit_tls=True)
    folder = tmp_path / "mail"
    folder.mkdir()
    rc = tmp_path / "mbsyncrc"
    rc.write_text(RC.format(port=port, ca=tls.ca, folder=folder))
    command = ["mbsync", "-c", str(rc), "-a"]
    await _run(command)

    here = _mails(folder / "INBOX")
    assert len(here) == 50
    there = await _remote(mail, alice, "INBOX")
    assert {_octets(path) for path in here} == set(there)
    seen = {_octets(path) for path in here if "S" in path.name.rpartition(",")[2]}
    assert seen == {raw for raw, bits in there.items() if bits & SEEN}

    # here: read one, delete one, add one; there: one more arrives
    unread = next(path for path in here if _octets(path) not in seen)
    read = folder / "INBOX" / "cur" / (unread.name.partition(":")[0] + ":2,S")
    unread.rename(read)
    doomed = next(path for path in here if path != unread)
    doomed.rename(doomed.parent / (doomed.name.partition(":")[0] + ":2,ST"))
    added = b"Subject: written here\nFrom: alice@example.test\n\nbody\n"
    (folder / "INBOX" / "new" / "1.added").write_bytes(added)
    await deliver(b"Subject: late\r\n\r\nlate\r\n")
    await _run(command)

    there = await _remote(mail, alice, "INBOX")
    assert len(there) == 51
    assert there[_octets(read)] & SEEN
    assert added in there
    assert b"Subject: late\n\nlate\n" in {_octets(path) for path in _mails(folder / "INBOX")}
    before = there
    await _run(command)
    assert await _remote(mail, alice, "INBOX") == before
