"""getmail fetches what is new from several mailboxes, and moves it on the server."""

from pathlib import Path

from mailserver.mail.context import Mail
from mailserver.model import Account
from tests.integration.clients import account as accounts
from tests.integration.clients.conftest import Served
from tests.integration.clients.programs import Terminal, make_deliverer, run

PATHS = ("INBOX", "Two Words", "Lists/日本語")
RC = """
[retriever]
type = SimpleIMAPSSLRetriever
server = localhost
port = {port}
username = {login}
password = {password}
ca_certs = {ca}
mailboxes = {mailboxes}
{move}

[destination]
type = MDA_external
path = {deliver}
allow_root_commands = true

[options]
delivered_to = false
received = false
read_all = false
{options}
"""


def _write(
    home: Path,
    server: Served,
    deliver: Path,
    *,
    paths: tuple[str, ...] = PATHS,
    move: str = "",
    options: str = "",
) -> None:
    (home / "getmailrc").write_text(
        RC.format(
            port=server.imaps,
            login=accounts.LOGIN,
            password=accounts.PASSWORD,
            ca=server.ca,
            mailboxes=paths,
            move=move,
            deliver=deliver,
            options=options,
        )
    )


def _delivered(mails: Path) -> list[bytes]:
    return sorted(accounts.body(path.read_bytes()) for path in mails.iterdir())


async def test_getmail(server: Served, mail: Mail, filled: Account, tmp_path: Path) -> None:
    command = ["getmail", "--getmaildir", str(tmp_path)]
    deliver, mails = make_deliverer(tmp_path)
    _write(tmp_path, server, deliver)
    stored = [await accounts.contents(mail, filled, path) for path in PATHS]
    wanted = [accounts.body(each.raw) for found in stored for each in found]
    await run(command)
    assert _delivered(mails) == sorted(wanted)
    late = accounts.message("late", number=200)
    await accounts.put(mail, filled, "Two Words", late)
    await run(command)
    wanted.append(accounts.body(late))
    assert _delivered(mails) == sorted(wanted), "it knows what it has by UIDVALIDITY and UID"

    _write(tmp_path, server, deliver, move="move_on_delete = Archive", options="delete = true")
    await run(command)
    assert _delivered(mails) == sorted(wanted)
    assert [await accounts.contents(mail, filled, path) for path in PATHS] == [[], [], []]
    archived = await accounts.contents(mail, filled, "Archive")
    assert sorted(accounts.body(each.raw) for each in archived) == sorted(wanted)
    assert server.answered("no") == {}


async def test_getmail_waits_for_mail(
    server: Served, mail: Mail, alice: Account, tmp_path: Path
) -> None:
    deliver, mails = make_deliverer(tmp_path)
    _write(tmp_path, server, deliver, paths=("INBOX",))
    terminal = await Terminal.open(
        ["getmail", "--getmaildir", tmp_path, "--idle", "INBOX", "--trace"],
        home=tmp_path,
        environment={},
    )
    wanted = []
    try:
        for number in (1, 2):
            await terminal.shows("Entering IDLE mode")
            raw = accounts.message(f"arrival {number}", number=number)
            wanted.append(accounts.body(raw))
            await accounts.put(mail, alice, "INBOX", raw)
        await terminal.shows("Entering IDLE mode")
    finally:
        await terminal.close()
    assert _delivered(mails) == sorted(wanted)
