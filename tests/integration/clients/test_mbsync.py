"""mbsync keeps Maildirs and the account equal, whichever side changes."""

import re
from pathlib import Path

import pytest

from mailserver.mail import mailboxes
from mailserver.mail.context import Mail
from mailserver.model import Account
from tests.integration.clients import account as accounts
from tests.integration.clients import maildir
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
Timeout 60

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
LETTERS = "SRFDTP"  # the flags that mbsync carries


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

    def contents(self) -> maildir.Folders:
        """Return the messages of every folder, under its name as people read it."""
        return {_decoded(path): found for path, found in maildir.contents(self.folder).items()}


@pytest.mark.parametrize("security", ["IMAPS", "STARTTLS"])
async def test_mbsync(
    server: Served, mail: Mail, filled: Account, tmp_path: Path, security: str
) -> None:
    here = Maildirs(tmp_path, server, tls=security)
    await here.synchronize()
    before = await maildir.of_server(mail, filled, LETTERS)
    assert here.contents() == before
    assert sum(map(len, before.values())) == accounts.INBOX_COUNT + sum(accounts.FOLDERS.values())

    await maildir.change_both_sides(mail, filled, here.folder, "Neue &AMQ- Kiste")
    empty = await mailboxes.by_path(mail, filled.id, "empty")
    await mailboxes.delete(mail, filled.id, empty.id)  # mbsync removes no folder that has mail
    await here.synchronize()
    there = await maildir.of_server(mail, filled, LETTERS)
    maildir.check_both_sides(before, here.contents(), there)

    uids = await accounts.everything(mail, filled)
    await here.synchronize()
    assert await accounts.everything(mail, filled) == uids, "nothing changed, nothing was moved"
    assert server.answered("no") == {}


def _decoded(path: str) -> str:
    """Read the modified UTF-7 of a folder's name (RFC 3501 §5.1.3)."""

    def text(match: re.Match[str]) -> str:
        return ("+" + match[1].replace(",", "/") + "-").encode().decode("utf-7") or "&"

    return re.sub(r"&([^-]*)-", lambda match: text(match) if match[1] else "&", path)
