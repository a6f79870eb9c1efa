"""offlineimap keeps Maildirs and the account equal, whichever side changes."""

import itertools
from pathlib import Path

from mailserver.mail import mailboxes
from mailserver.mail.context import Mail
from mailserver.model import Account
from tests.integration.clients import account as accounts
from tests.integration.clients.conftest import Served
from tests.integration.clients.programs import run

RC = """
[general]
accounts = alice
metadata = {folder}/metadata
ui = quiet

[Account alice]
localrepository = local
remoterepository = remote
utf8foldernames = yes

[Repository local]
type = Maildir
localfolders = {mail}
sep = /

[Repository remote]
type = IMAP
remotehost = localhost
remoteport = {port}
remoteuser = {login}
remotepass = {password}
sslcacertfile = {ca}
ssl = yes
usecompression = yes
"""
FLAGS = {"S": "\\Seen", "R": "\\Answered", "F": "\\Flagged", "D": "\\Draft", "T": "\\Deleted"}


def _mails(folder: Path) -> list[Path]:
    return sorted(itertools.chain((folder / "cur").iterdir(), (folder / "new").iterdir()))


def _here(folder: Path) -> dict[str, set[tuple[bytes, frozenset[str]]]]:
    return {
        str(cur.parent.relative_to(folder)): {
            (
                accounts.unmarked(mail.read_bytes()),
                frozenset(FLAGS[letter] for letter in mail.name.partition(":2,")[2]),
            )
            for mail in _mails(cur.parent)
        }
        for cur in folder.rglob("cur")
    }


async def _there(mail: Mail, account: Account) -> dict[str, set[tuple[bytes, frozenset[str]]]]:
    shown = frozenset(FLAGS.values())
    return {
        path: {(each.raw, each.flags & shown) for each in found}
        for path, found in (await accounts.everything(mail, account)).items()
    }


async def test_offlineimap(server: Served, mail: Mail, filled: Account, tmp_path: Path) -> None:
    folder = tmp_path / "mail"
    rc = tmp_path / "offlineimaprc"
    rc.write_text(
        RC.format(
            folder=tmp_path,
            mail=folder,
            port=server.imaps,
            login=accounts.LOGIN,
            password=accounts.PASSWORD,
            ca=server.ca,
        )
    )
    command = ["offlineimap", "-c", str(rc), "-o"]
    environment = {"HOME": str(tmp_path)}
    # offlineimap cannot quote a quotation mark
    said = await mailboxes.by_path(mail, filled.id, 'say "hi"')
    await mailboxes.delete(mail, filled.id, said.id)
    await run(command, environment=environment)
    assert _here(folder) == await _there(mail, filled)

    # here: read one, delete one, add one, make a folder; there: one arrives, another is flagged
    unread, doomed, *_ = (each for each in _mails(folder / "INBOX") if "S" not in each.name)
    read = accounts.unmarked(unread.read_bytes())
    gone = accounts.unmarked(doomed.read_bytes())
    unread.rename(folder / "INBOX" / "cur" / (unread.name.partition(":")[0] + ":2,FS"))
    doomed.unlink()
    added = b"Subject: written here\nFrom: alice@example.test\n\nbody\n"
    (folder / "INBOX" / "new" / "1.added").write_bytes(added)
    for place in ("new", "cur", "tmp"):
        (folder / "Neue Ä Kiste" / place).mkdir(parents=True)
    (folder / "Neue Ä Kiste" / "new" / "2.added").write_bytes(added)
    await accounts.put(mail, filled, "INBOX", b"Subject: late\r\n\r\nlate\r\n")
    await run(command, environment=environment)
    there = await _there(mail, filled)
    assert _here(folder) == there
    assert (read, frozenset({"\\Seen", "\\Flagged"})) in there["INBOX"]
    assert gone not in {raw for raw, _ in there["INBOX"]}
    assert added in {raw for raw, _ in there["INBOX"]}
    assert added in {raw for raw, _ in there["Neue Ä Kiste"]}
    assert (b"Subject: late\n\nlate\n", frozenset()) in there["INBOX"]

    before = await accounts.everything(mail, filled)
    await run(command, environment=environment)
    assert await accounts.everything(mail, filled) == before
    assert server.answered("ok")["COMPRESS"] >= 3
    assert server.answered("no") == {}
