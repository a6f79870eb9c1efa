"""offlineimap keeps Maildirs and the account equal, whichever side changes."""

from pathlib import Path

from mailserver.mail import mailboxes
from mailserver.mail.context import Mail
from mailserver.model import Account
from tests.integration.clients import account as accounts
from tests.integration.clients import maildir
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
LETTERS = "SRFDT"  # the flags that offlineimap carries


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
    before = await maildir.of_server(mail, filled, LETTERS)
    assert maildir.contents(folder) == before

    await maildir.change_both_sides(mail, filled, folder, "Neue Ä Kiste")
    await run(command, environment=environment)
    there = await maildir.of_server(mail, filled, LETTERS)
    maildir.check_both_sides(before, maildir.contents(folder), there)

    stored = await accounts.everything(mail, filled)
    await run(command, environment=environment)
    assert await accounts.everything(mail, filled) == stored
    assert server.answered("ok")["COMPRESS"] >= 3
    assert server.answered("no") == {}
