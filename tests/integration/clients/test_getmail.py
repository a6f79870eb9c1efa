"""getmail fetches what is new from several mailboxes, and moves it on the server.

It hands on by LMTP what it fetches: every other destination of it is a process of its own, whose
end it does not notice when that comes before it has begun to wait for it.
"""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from mailserver.mail.context import Mail
from mailserver.model import Account
from tests.integration.clients import account as accounts
from tests.integration.clients.conftest import Served
from tests.integration.clients.programs import Terminal, run
from tests.smtp_peer import Peer

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
type = MDA_lmtp
host = 127.0.0.1
port = {lmtp}
override = bob@example.org

[options]
delivered_to = false
received = false
read_all = false
{options}
"""


@pytest_asyncio.fixture
async def peer() -> AsyncIterator[Peer]:
    """Who takes what getmail hands on."""
    found = Peer()
    await found.start()
    yield found
    await found.stop()


def _write(
    home: Path,
    server: Served,
    peer: Peer,
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
            lmtp=peer.port,
            options=options,
        )
    )


def _delivered(peer: Peer) -> list[bytes]:
    """Return the bodies that came; Python, which getmail is written in, quotes "From" in them."""
    bodies = [accounts.body(each.content) for each in peer.received]
    return sorted(each.replace(b"\n>From ", b"\nFrom ") for each in bodies)


async def test_getmail(
    server: Served, mail: Mail, filled: Account, peer: Peer, tmp_path: Path
) -> None:
    command = ["getmail", "--getmaildir", str(tmp_path)]
    _write(tmp_path, server, peer)
    stored = [await accounts.contents(mail, filled, path) for path in PATHS]
    wanted = [accounts.body(each.raw) for found in stored for each in found]
    await run(command)
    assert _delivered(peer) == sorted(wanted)
    late = accounts.message("late", number=200)
    await accounts.put(mail, filled, "Two Words", late)
    await run(command)
    wanted.append(accounts.body(late))
    assert _delivered(peer) == sorted(wanted), "it knows what it has by UIDVALIDITY and UID"

    _write(tmp_path, server, peer, move="move_on_delete = Archive", options="delete = true")
    await run(command)
    assert _delivered(peer) == sorted(wanted)
    assert [await accounts.contents(mail, filled, path) for path in PATHS] == [[], [], []]
    archived = await accounts.contents(mail, filled, "Archive")
    assert sorted(accounts.body(each.raw) for each in archived) == sorted(wanted)
    assert server.answered("no") == {}


async def test_getmail_waits_for_mail(
    server: Served, mail: Mail, alice: Account, peer: Peer, tmp_path: Path
) -> None:
    _write(tmp_path, server, peer, paths=("INBOX",))
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
    assert _delivered(peer) == sorted(wanted)
