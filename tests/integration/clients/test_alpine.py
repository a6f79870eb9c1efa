"""Alpine: read, flag, save, delete, expunge, and news, by its keys."""

from pathlib import Path

from mailserver.mail.context import Mail
from mailserver.model import Account
from tests.integration.clients import account as accounts
from tests.integration.clients.conftest import Served
from tests.integration.clients.programs import Terminal


async def test_alpine(server: Served, mail: Mail, filled: Account, tmp_path: Path) -> None:
    host = f"{{localhost:{server.imaps}/ssl/user={accounts.LOGIN}}}"
    (tmp_path / ".pinerc").write_text(
        f"inbox-path={host}INBOX\n"
        f"folder-collections=Mail {host}[]\n"
        "feature-list=quit-without-confirm,expunge-without-confirm,enable-flag-cmd\n"
        "sort-key=arrival\n"
        "initial-keystroke-list=i\n"
        "last-version-used=7.00\n"
    )
    terminal = await Terminal.open(
        ["alpine"], home=tmp_path, environment={"SSL_CERT_FILE": str(server.ca)}
    )
    try:
        await terminal.shows("PASSWORD")
        terminal.type(accounts.PASSWORD + "\r")
        await terminal.shows("Preserve password on DISK")
        terminal.type("n")
        await terminal.shows("message 11")
        terminal.type("j1\r\r")
        await terminal.shows("number 0.")
        terminal.type("i")
        await terminal.shows("message 11")
        terminal.type("j4\rsArchive\r")
        await terminal.shows("D   4 ")
        terminal.type("j6\rd\x0c")
        await terminal.shows("D   6 ")
        await accounts.put(mail, filled, "INBOX", accounts.message("news"))
        terminal.type("\x0c")
        await terminal.shows("news")
        terminal.type("x")
        await terminal.shows("xpunged")
        terminal.type("q")
        assert await terminal.ends() == 0
    finally:
        await terminal.close()
    left = await accounts.subjects(mail, filled, "INBOX")
    assert left == [*(f"message {n}" for n in (0, 1, 2, 4, 6, 7, 8, 9, 10, 11)), "news"]
    assert "\\Seen" in await accounts.flags_of(mail, filled, "INBOX", "message 0")
    assert await accounts.subjects(mail, filled, "Archive") == ["message 3"]
    assert server.answered("no") == {}
