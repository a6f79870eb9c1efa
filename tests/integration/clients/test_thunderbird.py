"""Thunderbird: open, read, mark, move, delete, be told of new mail, append, send."""

import base64
from pathlib import Path

import pytest

from mailserver.mail import mailboxes
from mailserver.mail.context import Mail
from mailserver.model import Account
from tests.integration.clients import account as accounts
from tests.integration.clients.conftest import Served
from tests.integration.clients.thunderbird import Thunderbird, thunderbird

pytestmark = pytest.mark.clients_heavy


async def test_thunderbird(
    server: Served, mail: Mail, filled: Account, bob: Account, tmp_path: Path
) -> None:
    # in GETQUOTAROOT it forgets the end of a name with quotation marks
    said = await mailboxes.by_path(mail, filled.id, 'say "hi"')
    await mailboxes.subscribe(mail, filled.id, said.path, False)
    await mailboxes.delete(mail, filled.id, said.id)
    async with thunderbird(server, tmp_path) as program:
        await _opens(program, mail, filled)
        await _is_told(program, mail, filled)
        await _changes(program, mail, filled)
        await _makes_folders(program, mail, filled)
        await _sends(program, mail, filled, bob, tmp_path)
    answered = server.answered("ok")
    assert {"COMPRESS", "ENABLE", "ID", "IDLE", "NAMESPACE", "MYRIGHTS"} <= answered.keys()
    assert server.answered("no") == {}


async def _opens(program: Thunderbird, mail: Mail, alice: Account) -> None:
    """It shows every folder, every message with its flags, and has every octet."""
    shown = await program.do(
        """
        server.performExpand(null);
        until(() => root.descendants.some(each => each.name == "empty"));
        return root.descendants.map(each => decodeURIComponent(each.URI.split("localhost/")[1]));
        """
    )
    assert set(shown) == await accounts.paths(mail, alice)
    stored = await accounts.everything(mail, alice)
    for path, found in stored.items():
        if not found:
            continue
        shown = await program.do(
            """
            const [path] = arguments;
            if (update(path) != 0) throw new Error("update");
            const heard = listener();
            folder(path).setFlag(Ci.nsMsgFolderFlags.Offline);
            folder(path).downloadAllForOffline(heard, null);
            if (finish(heard) != 0) throw new Error("download");
            const read = message => {
              const stream = Cc["@mozilla.org/binaryinputstream;1"].createInstance(
                Ci.nsIBinaryInputStream);
              const source = folder(path).getMsgInputStream(message, {});
              stream.setInputStream(source);
              let octets = "";
              for (let more; (more = stream.available()); ) octets += stream.readBytes(more);
              return btoa(octets);
            };
            return messages(path).map(each => [
              each.messageKey, each.mime2DecodedSubject, each.isRead, each.isFlagged, read(each),
            ]);
            """,
            path,
        )
        assert [each[0] for each in shown] == [each.uid for each in found]
        for (_, subject, is_read, is_flagged, octets), each in zip(shown, found, strict=True):
            assert f"\nSubject: {subject}\n".encode() in each.raw
            assert is_read == ("\\Seen" in each.flags)
            assert is_flagged == ("\\Flagged" in each.flags)
            assert accounts.unmarked(base64.b64decode(octets)) == each.raw


async def _is_told(program: Thunderbird, mail: Mail, alice: Account) -> None:
    """It is in IDLE: mail, a flag and an expunge of others show without asking."""
    assert await program.do('return update("INBOX");') == 0
    await accounts.put(mail, alice, "INBOX", accounts.message("news"))
    await program.do('until(() => bySubject("INBOX", "news"));')
    await accounts.mark(mail, alice, "INBOX", [1], "\\Flagged")
    await program.do('until(() => bySubject("INBOX", "message 0").isFlagged);')
    await accounts.remove(mail, alice, "INBOX", [2])
    await program.do('until(() => !bySubject("INBOX", "message 1"));')


async def _changes(program: Thunderbird, mail: Mail, alice: Account) -> None:
    """It marks, tags, moves, copies and deletes."""
    await program.do(
        """
        const inbox = folder("INBOX");
        const message = n => bySubject("INBOX", "message " + n);
        inbox.markMessagesRead([message(0), message(3)], true);
        inbox.markMessagesRead([message(5)], false);
        inbox.markMessagesFlagged([message(4)], true);
        inbox.addKeywordsToMessages([message(4)], "$label2");
        const copy = (chosen, path, move) => {
          const heard = listener();
          MailServices.copy.copyMessages(inbox, chosen, folder(path), move, heard, null, false);
          if (finish(heard) != 0) throw new Error("copy to " + path);
        };
        copy([message(6), message(7)], "Archive", true);
        copy([message(8)], "Lists/日本語", false);
        const heard = listener();
        inbox.deleteMessages([message(9)], null, false, false, heard, false);
        if (finish(heard) != 0) throw new Error("delete");
        if (update("INBOX") != 0) throw new Error("update");
        """
    )
    flags = {n: await accounts.flags_of(mail, alice, "INBOX", f"message {n}") for n in (0, 3, 4, 5)}
    assert flags[0] == {"\\Seen", "\\Flagged"}
    assert flags[3] >= {"\\Seen", "\\Answered", "project-x"}
    assert flags[4] == {"\\Flagged", "$label2"}
    assert flags[5] == set()
    assert await accounts.subjects(mail, alice, "Archive") == ["message 6", "message 7"]
    assert (await accounts.subjects(mail, alice, "Lists/日本語"))[-1] == "message 8"
    assert await accounts.subjects(mail, alice, "Trash") == ["message 9"]
    left = [f"message {n}" for n in (0, 2, 3, 4, 5, 8, 10, 11)]
    assert await accounts.subjects(mail, alice, "INBOX") == [*left, "news"]


async def _makes_folders(program: Thunderbird, mail: Mail, alice: Account) -> None:
    """It makes a folder, renames it, and deletes another."""
    await program.do(
        """
        root.createSubfolder("Neue Ä Kiste", null);
        until(() => root.getChildNamed("Neue Ä Kiste"));
        folder("Neue Ä Kiste").rename("Sammlung", null);
        until(() => root.getChildNamed("Sammlung"));
        """
    )
    paths = await accounts.paths(mail, alice)
    assert "Sammlung" in paths
    assert "Neue Ä Kiste" not in paths


async def _sends(
    program: Thunderbird, mail: Mail, alice: Account, bob: Account, folder: Path
) -> None:
    """It sends by submission and puts a copy into Sent."""
    message = folder / "message.eml"
    raw = accounts.message("sent by Thunderbird", html=True)
    message.write_bytes(raw.replace(b"juergen@example.org", alice.login.encode()))
    status = await program.do(
        """
        const [path, to] = arguments;
        const file = Cc["@mozilla.org/file/local;1"].createInstance(Ci.nsIFile);
        file.initWithPath(path);
        const fields = Cc["@mozilla.org/messengercompose/composefields;1"].createInstance(
          Ci.nsIMsgCompFields);
        const identity = account.defaultIdentity;
        fields.from = identity.email;
        fields.to = to;
        fields.fcc = folder("Sent").URI;
        const heard = { done: false, status: null };
        heard.QueryInterface = ChromeUtils.generateQI(
          ["nsIMsgSendListener", "nsIMsgCopyServiceListener"]);
        for (const name of ["onStartSending", "onProgress", "onStatus", "onGetDraftFolderURI",
          "onSendNotPerformed", "onTransportSecurityError", "onStartCopy", "setMessageKey"])
          heard[name] = () => {};
        heard.onStopSending = (id, status) => {
          if (status != 0) { heard.status = status; heard.done = true; }
        };
        heard.getMessageId = () => null;
        heard.onStopCopy = status => { heard.status = status; heard.done = true; };
        const send = Cc["@mozilla.org/messengercompose/send;1"].createInstance(Ci.nsIMsgSend);
        send.sendMessageFile(identity, account.key, fields, file, false, false,
          Ci.nsIMsgSend.nsMsgDeliverNow, null, heard, null, "");
        return finish(heard);
        """,
        str(message),
        bob.login,
    )
    assert status == 0
    [arrived] = await accounts.contents(mail, bob, "INBOX")
    [kept] = await accounts.contents(mail, alice, "Sent")
    assert accounts.body(arrived.raw) == accounts.body(kept.raw)
