"""imap-tools: mails as objects, folders, flags, and waiting for news."""

import asyncio

from imap_tools import AND, MailBox, MailMessageFlags

from mailserver.mail.context import Mail
from mailserver.model import Account
from tests.integration.clients import account as accounts
from tests.integration.clients.conftest import Served
from tests.integration.conftest import Tls


def _work(box: MailBox) -> None:
    assert {found.name for found in box.folder.list()} >= {"INBOX", *accounts.FOLDERS}
    assert box.folder.status("Two Words")["MESSAGES"] == accounts.FOLDERS["Two Words"]
    found = list(box.fetch(AND(seen=False, subject="message"), mark_seen=False, bulk=True))
    assert [mail.subject for mail in found] == [f"message {n}" for n in (0, 3, 4, 7, 8, 11)]
    assert found[0].from_values is not None
    assert found[0].from_values.full == "Jürgen <juergen@example.org>"
    assert found[0].text.startswith("Grüße, number 0.")
    assert [part.filename for part in found[1].attachments] == ["bytes"]
    assert found[1].attachments[0].payload == accounts.ATTACHMENT

    box.folder.create("Lists/Neue Ä Kiste")
    box.append(accounts.message("by imap-tools"), "Lists/Neue Ä Kiste", flag_set=["\\Seen"])
    uids = [mail.uid for mail in found if mail.uid]
    box.flag(uids[:1], (MailMessageFlags.FLAGGED, "mine"), True)
    box.copy(uids[1:2], "Archive")
    box.move(uids[2:3], "Lists/Neue Ä Kiste")
    box.delete(uids[3:4])
    box.folder.rename("Two Words", "Three Little Words")
    box.folder.delete("empty")


async def test_imap_tools(server: Served, mail: Mail, tls: Tls, filled: Account) -> None:
    def work() -> None:
        box = MailBox("localhost", server.imaps, ssl_context=tls.client, timeout=60)
        with box.login(accounts.LOGIN, accounts.PASSWORD):
            _work(box)

    await asyncio.to_thread(work)
    assert await accounts.flags_of(mail, filled, "INBOX", "message 0") == {"\\Flagged", "mine"}
    assert await accounts.subjects(mail, filled, "Archive") == ["message 3"]
    moved = await accounts.subjects(mail, filled, "Lists/Neue Ä Kiste")
    assert moved == ["by imap-tools", "message 4"]
    left = await accounts.subjects(mail, filled, "INBOX")
    assert left == [f"message {n}" for n in (0, 1, 2, 3, 5, 6, 8, 9, 10, 11)]
    there = await accounts.paths(mail, filled)
    assert "Three Little Words" in there
    assert not {"empty", "Two Words"} & there
    assert server.answered("no") == {}


async def test_imap_tools_is_told_of_new_mail(
    server: Served, mail: Mail, tls: Tls, filled: Account
) -> None:
    idling = asyncio.Event()
    loop = asyncio.get_running_loop()

    def wait() -> list[bytes]:
        box = MailBox("localhost", server.imaps, ssl_context=tls.client, timeout=60)
        with box.login(accounts.LOGIN, accounts.PASSWORD):
            box.idle.start()  # type: ignore[no-untyped-call]
            loop.call_soon_threadsafe(idling.set)
            told = box.idle.poll(timeout=60)
            box.idle.stop()  # type: ignore[no-untyped-call]
            return told

    waiting = asyncio.create_task(asyncio.to_thread(wait))
    await asyncio.wait_for(idling.wait(), 60)
    await accounts.put(mail, filled, "INBOX", accounts.message("news"))
    assert b"* %d EXISTS" % (accounts.INBOX_COUNT + 1) in await waiting
