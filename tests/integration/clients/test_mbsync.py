"""mbsync keeps Maildirs and the account equal, whichever side changes."""

import itertools
import re
from pathlib import Path

import pytest

from mailserver.mail import mailboxes
from mailserver.mail.context import Mail
from mailserver.model import Account
from tests.integration.clients import account as accounts
from tests.integration.clients.conftest import Served
from tests.integration.clients.programs import run

RC = """
IMAPAccount server
Host localhost
Port {port}
User {login}
Pass "{password}"
SSLType {tls}
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
Patterns *
Create Both
Remove Both
Expunge Both
SyncState *
"""
FLAGS = {
    "S": "\\Seen",
    "R": "\\Answered",
    "F": "\\Flagged",
    "D": "\\Draft",
    "T": "\\Deleted",
    "P": "$Forwarded",
}


class Maildirs:
    """The client's side."""

    def __init__(self, folder: Path, server: Served, *, tls: str) -> None:
        self.folder = folder / "mail"
        self.folder.mkdir()
        self.rc = folder / "mbsyncrc"
        self.rc.write_text(
            RC.format(
                port=server.imaps if tls == "IMAPS" else server.imap,
                login=accounts.LOGIN,
                password=accounts.PASSWORD,
                tls=tls,
                ca=server.ca,
                folder=self.folder,
            )
        )

    async def synchronize(self) -> None:
        await run(["mbsync", "-c", self.rc, "-a"])

    def mails(self, path: str) -> list[Path]:
        folder = self.folder / path
        return sorted(itertools.chain((folder / "cur").iterdir(), (folder / "new").iterdir()))

    def contents(self) -> dict[str, set[tuple[bytes, frozenset[str]]]]:
        """Return the messages of every folder with their flags."""
        found = {}
        for cur in self.folder.rglob("cur"):
            path = str(cur.parent.relative_to(self.folder))
            found[path] = {
                (accounts.unmarked(mail.read_bytes()), _flags(mail)) for mail in self.mails(path)
            }
        return found


def _flags(mail: Path) -> frozenset[str]:
    return frozenset(FLAGS[letter] for letter in mail.name.partition(":2,")[2])


async def _remote(mail: Mail, account: Account) -> dict[str, set[tuple[bytes, frozenset[str]]]]:
    """Return the server's side as a Maildir can show it."""
    shown = frozenset(FLAGS.values())
    return {
        path: {(each.raw, each.flags & shown) for each in found}
        for path, found in (await accounts.everything(mail, account)).items()
    }


@pytest.mark.parametrize("security", ["IMAPS", "STARTTLS"])
async def test_mbsync(
    server: Served, mail: Mail, filled: Account, tmp_path: Path, security: str
) -> None:
    here = Maildirs(tmp_path, server, tls=security)
    await here.synchronize()
    local = {_decoded(path): found for path, found in here.contents().items()}
    assert local == await _remote(mail, filled)
    assert sum(map(len, local.values())) == accounts.INBOX_COUNT + sum(accounts.FOLDERS.values())

    # here: read one, delete one, add one, make a folder; there: one arrives, one folder goes
    unread, doomed, *_ = (
        each for each in here.mails("INBOX") if "S" not in each.name.partition(":2,")[2]
    )
    read = accounts.unmarked(unread.read_bytes())
    unread.rename(here.folder / "INBOX" / "cur" / (unread.name.partition(":")[0] + ":2,FS"))
    gone = accounts.unmarked(doomed.read_bytes())
    doomed.rename(here.folder / "INBOX" / "cur" / (doomed.name.partition(":")[0] + ":2,ST"))
    added = b"Subject: written here\nFrom: alice@example.test\n\nbody\n"
    (here.folder / "INBOX" / "new" / "1.added").write_bytes(added)
    for place in ("new", "cur", "tmp"):
        (here.folder / "Neue &AMQ- Kiste" / place).mkdir(parents=True)
    (here.folder / "Neue &AMQ- Kiste" / "new" / "2.added").write_bytes(added)
    await accounts.put(mail, filled, "INBOX", b"Subject: late\r\n\r\nlate\r\n")
    empty = await mailboxes.by_path(mail, filled.id, "empty")
    await mailboxes.delete(mail, filled.id, empty.id)  # mbsync removes no folder that has mail
    await here.synchronize()

    there = await _remote(mail, filled)
    assert {_decoded(path): found for path, found in here.contents().items()} == there
    assert (read, frozenset({"\\Seen", "\\Flagged"})) in there["INBOX"]
    assert gone not in {raw for raw, _ in there["INBOX"]}
    assert added in {raw for raw, _ in there["INBOX"]}
    assert added in {raw for raw, _ in there["Neue Ä Kiste"]}
    assert (b"Subject: late\n\nlate\n", frozenset()) in there["INBOX"]

    uids = await accounts.everything(mail, filled)
    await here.synchronize()
    assert await accounts.everything(mail, filled) == uids, "nothing changed, nothing was moved"
    assert server.answered("no") == {}


def _decoded(path: str) -> str:
    """Read the modified UTF-7 of a folder's name (RFC 3501 §5.1.3)."""

    def text(match: re.Match[str]) -> str:
        return ("+" + match[1].replace(",", "/") + "-").encode().decode("utf-7") or "&"

    return re.sub(r"&([^-]*)-", lambda match: text(match) if match[1] else "&", path)
