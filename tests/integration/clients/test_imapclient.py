"""IMAPClient: what its methods return is what the server has."""

import asyncio
from datetime import UTC, datetime

from imapclient import IMAPClient

from mailserver.mail.context import Mail
from mailserver.model import Account
from tests.integration.clients import account as accounts
from tests.integration.clients.conftest import Served
from tests.integration.conftest import Tls

APPENDED = datetime(2026, 2, 3, 4, 5, 6, tzinfo=UTC)


def _read(client: IMAPClient) -> None:
    assert client.namespace().personal == (("", "/"),)
    assert {name for _, _, name in client.list_folders()} >= {"INBOX", *accounts.FOLDERS}
    assert client.find_special_folder(b"\\Trash") == "Trash"
    assert client.folder_status("Lists/日本語")[b"MESSAGES"] == accounts.FOLDERS["Lists/日本語"]
    assert client.select_folder("INBOX")[b"EXISTS"] == accounts.INBOX_COUNT
    assert client.search("UNSEEN") == [1, 4, 5, 8, 9, 12]
    assert client.search(["SUBJECT", "message 1", "NOT", "SEEN"]) == [12]
    assert client.search(["TEXT", "Grüße, number 7"], charset="UTF-8") == [8]
    assert client.sort(["REVERSE ARRIVAL"]) == list(range(12, 0, -1))
    assert sorted(uid for thread in client.thread() for uid in thread) == list(range(1, 13))
    found = client.fetch([2, 4], ["ENVELOPE", "BODYSTRUCTURE", "FLAGS", "INTERNALDATE"])
    assert found[2][b"ENVELOPE"].subject == b"message 1"
    assert found[2][b"ENVELOPE"].from_[0].mailbox == b"juergen"
    assert found[4][b"BODYSTRUCTURE"].is_multipart
    assert found[4][b"FLAGS"] == (
        b"\\Answered",
        b"$Forwarded",
        b"project-x",
        b"\\Recent",
    )
    quota = client.get_quota_root("INBOX")
    assert quota[0].mailbox == "INBOX"


def _write(client: IMAPClient) -> None:
    client.create_folder("Neue Ä Kiste")
    client.subscribe_folder("Neue Ä Kiste")
    raw = accounts.message("by IMAPClient", number=100)
    client.append("Neue Ä Kiste", raw, (b"\\Flagged", b"Mine"), APPENDED)
    client.multiappend("Neue Ä Kiste", [accounts.message(f"of two, {n}") for n in (1, 2)])
    client.select_folder("Neue Ä Kiste")
    assert client.fetch(1, ["BODY.PEEK[]", "INTERNALDATE"])[1][b"BODY[]"] == raw
    client.add_flags([1, 2], [b"\\Seen"])
    client.remove_flags(1, [b"\\Flagged"])
    client.move(2, "Archive")
    client.copy(3, "Two Words")
    client.delete_messages(3)
    client.uid_expunge(3)
    client.rename_folder("Neue Ä Kiste", "Lists/Kiste")
    client.unselect_folder()


async def test_imapclient(server: Served, mail: Mail, tls: Tls, filled: Account) -> None:
    def work() -> None:
        with IMAPClient("localhost", server.imap, ssl=False, timeout=60) as client:
            client.starttls(tls.client)
            client.login(accounts.LOGIN, accounts.PASSWORD)
            _read(client)
            _write(client)

    await asyncio.to_thread(work)
    [stored] = await accounts.contents(mail, filled, "Lists/Kiste")
    assert stored.flags == {"\\Seen", "Mine"}
    assert stored.received_at == APPENDED
    assert await accounts.subjects(mail, filled, "Archive") == ["of two, 1"]
    assert (await accounts.subjects(mail, filled, "Two Words"))[-1] == "of two, 2"
    assert server.answered("no") == {}


async def test_imapclient_is_told_of_new_mail(
    server: Served, mail: Mail, tls: Tls, filled: Account
) -> None:
    idling = asyncio.Event()
    loop = asyncio.get_running_loop()

    def wait() -> list[tuple[int, bytes]]:
        with IMAPClient("localhost", server.imaps, ssl_context=tls.client, timeout=60) as client:
            client.login(accounts.LOGIN, accounts.PASSWORD)
            client.select_folder("INBOX")
            client.idle()
            loop.call_soon_threadsafe(idling.set)
            told: list[tuple[int, bytes]] = client.idle_check(timeout=60)
            client.idle_done()
            return told

    waiting = asyncio.create_task(asyncio.to_thread(wait))
    await asyncio.wait_for(idling.wait(), 60)
    await accounts.put(mail, filled, "INBOX", accounts.message("news"))
    assert (accounts.INBOX_COUNT + 1, b"EXISTS") in await waiting


async def test_imapclient_resumes_by_modseq(
    server: Served, mail: Mail, tls: Tls, filled: Account
) -> None:
    def work() -> None:
        with IMAPClient("localhost", server.imaps, ssl_context=tls.client, timeout=60) as client:
            client.login(accounts.LOGIN, accounts.PASSWORD)
            assert client.enable("CONDSTORE") == [b"CONDSTORE"]
            highest = client.select_folder("INBOX")[b"HIGHESTMODSEQ"]
            client.add_flags(3, [b"Later"])
            changed = client.fetch(range(1, 13), ["FLAGS"], [f"CHANGEDSINCE {highest}"])
            assert set(changed) == {3}
            assert changed[3][b"MODSEQ"][0] > highest

    await asyncio.to_thread(work)
