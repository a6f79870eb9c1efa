"""fetchmail takes mail away: by polling, keeping it, and while it waits in IDLE."""

from pathlib import Path

import pytest

from mailserver.mail.context import Mail
from mailserver.model import Account
from tests.integration.clients import account as accounts
from tests.integration.clients.conftest import Served
from tests.integration.clients.programs import Terminal, make_deliverer, run

RC = """
poll localhost protocol imap port {port} auth password
  username "{login}" password "{password}" {security}
  sslcertck sslcertfile "{ca}" no rewrite {options}
  mda "{mda}"
"""
NOTHING_NEW = 1  # exit code


class Fetchmail:
    """One configuration, and the messages that it delivered."""

    def __init__(self, home: Path, server: Served, options: str, *, security: str = "ssl") -> None:
        self.home = home
        deliver, self._mails = make_deliverer(home)
        self.environment = {"FETCHMAILHOME": str(home)}
        rc = home / "fetchmailrc"
        rc.write_text(
            RC.format(
                port=server.imaps if security == "ssl" else server.imap,
                login=accounts.LOGIN,
                password=accounts.PASSWORD,
                security=security,
                ca=server.ca,
                options=options,
                mda=deliver,
            )
        )
        rc.chmod(0o600)
        # root's would be one for the machine, and name who was killed with it
        pidfile = home / "fetchmail.pid"
        self.command = ["fetchmail", "--fetchmailrc", str(rc), "--pidfile", str(pidfile)]

    def bodies(self) -> list[bytes]:
        """Return what follows the headers, to which fetchmail adds its own fields."""
        return sorted(accounts.body(path.read_bytes()) for path in self._mails.iterdir())


@pytest.mark.parametrize("security", ["ssl", "sslproto TLS1.2+"])
async def test_fetchmail(
    server: Served, mail: Mail, filled: Account, tmp_path: Path, security: str
) -> None:
    before = await accounts.contents(mail, filled, "INBOX")
    fetchmail = Fetchmail(tmp_path, server, "fetchall", security=security)
    await run([*fetchmail.command, "--keep"], environment=fetchmail.environment)
    assert fetchmail.bodies() == sorted(accounts.body(each.raw) for each in before)
    seen = await accounts.contents(mail, filled, "INBOX")
    assert all("\\Seen" in each.flags for each in seen)
    await run(fetchmail.command, environment=fetchmail.environment)
    assert fetchmail.bodies() == sorted(accounts.body(each.raw) for each in before * 2)
    assert await accounts.contents(mail, filled, "INBOX") == []
    await run(fetchmail.command, environment=fetchmail.environment, codes=[NOTHING_NEW])
    assert server.answered("no") == {}


async def test_fetchmail_waits_for_mail(
    server: Served, mail: Mail, alice: Account, tmp_path: Path
) -> None:
    fetchmail = Fetchmail(tmp_path, server, "idle fetchall")
    terminal = await Terminal.open(
        [*fetchmail.command, "--verbose"], home=tmp_path, environment=fetchmail.environment
    )
    try:
        for number in (1, 2):
            await terminal.shows("IMAP< + idling")
            raw = accounts.message(f"arrival {number}", number=number)
            await accounts.put(mail, alice, "INBOX", raw)
        await terminal.shows("IMAP< + idling")
    finally:
        await terminal.close()
    assert len(fetchmail.bodies()) == 2
    assert await accounts.contents(mail, alice, "INBOX") == []
    assert server.answered("no") == {}
