"""mutt and neomutt: read, file, delete, be told, come back with QRESYNC, and send."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from mailserver.mail.context import Mail
from mailserver.model import Account
from tests.integration.clients import account as accounts
from tests.integration.clients.conftest import Served
from tests.integration.clients.programs import Terminal, run

RC = """
set folder = "imaps://localhost:{imaps}/"
set spoolfile = "+INBOX"
set record = "+Sent"
set imap_user = "{login}"
set imap_pass = "{password}"
set smtp_url = "smtps://alice%40example.test@localhost:{submissions}"
set smtp_pass = "{password}"
set from = "{login}"
set realname = "Alice"
set ssl_ca_certificates_file = "{ca}"
set ssl_force_tls = yes
set imap_condstore = yes
set imap_qresync = yes
{more}
set imap_idle = yes
set imap_check_subscribed = yes
set header_cache = "{home}/cache/"
set timeout = 1
set mail_check = 1
set sort = mailbox-order
set index_format = "%4C %s"
set charset = utf-8
set send_charset = utf-8
set move = no
set confirmappend = no
set delete = yes
set quit = yes
set wait_key = no
"""


@asynccontextmanager
async def _open(program: str, home: Path, *arguments: str) -> AsyncIterator[Terminal]:
    terminal = await Terminal.open(
        [program, "-F", home / "rc", *arguments], home=home, environment={}
    )
    try:
        yield terminal
        terminal.type("q")
        assert await terminal.ends() == 0
    finally:
        await terminal.close()


@pytest.fixture(params=["mutt", "neomutt"])
def program(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def home(server: Served, program: str, tmp_path: Path) -> Path:
    (tmp_path / "cache").mkdir()
    (tmp_path / "rc").write_text(
        RC.format(
            imaps=server.imaps,
            submissions=server.submissions,
            login=accounts.LOGIN,
            password=accounts.PASSWORD,
            ca=server.ca,
            home=tmp_path,
            more="set imap_deflate = yes" if program == "mutt" else "",
        )
    )
    return tmp_path


async def test_mutt(server: Served, mail: Mail, filled: Account, home: Path, program: str) -> None:
    async with _open(program, home) as terminal:
        await terminal.shows("message 11")
        # read the first one, flag the second, file the fourth, delete the sixth
        terminal.type("1\n\n")
        await terminal.shows("Grüße, number 0.")
        terminal.type("i2\nF4\ns=Lists/日本語\n6\nd$")
        await terminal.shows("message 11")
        await accounts.put(mail, filled, "INBOX", accounts.message("news while idle"))
        await terminal.shows("news while idle")
    there = {each.uid: each.flags for each in await accounts.contents(mail, filled, "INBOX")}
    assert set(there) == {1, 2, 3, 5, 7, 8, 9, 10, 11, 12, 13}
    assert there[1] == {"\\Seen"}
    assert "\\Flagged" in there[2]
    assert (await accounts.subjects(mail, filled, "Lists/日本語"))[-1] == "message 3"

    # while it is away: one goes, one is flagged, one comes
    await accounts.remove(mail, filled, "INBOX", [7])
    await accounts.mark(mail, filled, "INBOX", [8], "\\Flagged")
    await accounts.put(mail, filled, "INBOX", accounts.message("news while away"))
    async with _open(program, home) as terminal:
        await terminal.shows("news while away")
        terminal.type("l~F\n")
        await terminal.shows("Flag:4")
        terminal.type("lall\n")
        await terminal.shows("news while away")
        terminal.type("D~s 'news while'\n$")
        await terminal.shows("2 deleted")
    left = await accounts.subjects(mail, filled, "INBOX")
    assert left == [f"message {n}" for n in (0, 1, 2, 4, 7, 8, 9, 10, 11)]
    assert server.answered("ok").get("COMPRESS", 0) == (2 if program == "mutt" else 0)
    assert server.answered("no") == {}


async def test_mutt_sends(
    server: Served, mail: Mail, alice: Account, bob: Account, home: Path, program: str
) -> None:
    body = "Grüße\n.\nfrom a pipe\n".encode()
    await run([program, "-F", home / "rc", "-s", "sent", bob.login], given=body)
    [arrived] = await accounts.contents(mail, bob, "INBOX")
    assert b"Subject: sent\n" in arrived.raw
    if program == "mutt":  # neomutt puts no copy into an IMAP mailbox when it sends from a pipe
        [kept] = await accounts.contents(mail, alice, "Sent")
        assert accounts.body(arrived.raw) == accounts.body(kept.raw)
        assert kept.flags == {"\\Seen"}
    assert server.answered("no") == {}
