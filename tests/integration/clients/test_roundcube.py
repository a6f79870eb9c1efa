"""Roundcube's IMAP class, without the web around it."""

import base64
import json
from pathlib import Path
from typing import Any

from mailserver.imap.protocol.utf7 import encode
from mailserver.mail.context import Mail
from mailserver.model import Account
from tests.integration.clients import account as accounts
from tests.integration.clients.conftest import Served
from tests.integration.clients.programs import run

SCRIPT = Path(__file__).parent / "roundcube" / "client.php"


# where tests/clients.sh unpacks Debian's package
LIBRARY = Path(__file__).parents[3] / ".clients/roundcube/usr/share/roundcube/program/lib/Roundcube"


async def _drive(server: Served, message: bytes) -> Any:
    said = await run(
        [
            "php", "-d", "error_reporting=E_ALL & ~E_DEPRECATED", SCRIPT, LIBRARY,
            str(server.imaps), server.ca, accounts.LOGIN, accounts.PASSWORD,
        ],
        given=message,
    )  # fmt: skip
    return json.loads(said)


async def test_roundcube(server: Served, mail: Mail, filled: Account, bob: Account) -> None:
    before = await accounts.contents(mail, filled, "INBOX")
    there = await accounts.subscribed(mail, filled)
    message = accounts.message("by Roundcube", number=70, html=True)
    said = await _drive(server, message)
    _check_what_it_read(said, before, there)

    new = await accounts.contents(mail, filled, "Lists/Neue Ä Kiste")
    assert [each.uid for each in new] == [int(said["appended"]), 2, 3]
    assert new[0].raw == accounts.unmarked(message)
    assert new[0].flags == {"\\Seen"}
    assert await accounts.subjects(mail, filled, "Archive") == ["message 2"]
    left = {each.uid: each.flags for each in await accounts.contents(mail, filled, "INBOX")}
    assert set(left) == {1, 2, 3, 7, 8, 9, 10, 11, 12}
    assert left[1] == left[2] == left[3] == {"\\Flagged"}
    paths = await accounts.paths(mail, filled)
    assert "Three Little Words" in paths
    assert not {"empty", "Two Words"} & paths
    assert await accounts.contents(mail, filled, 'say "hi"') == []
    assert said["metadata"] == {"INBOX": {"/private/comment": "ours"}}
    mine, given = said["rights"]
    assert given[bob.login] == ["l", "r", "s"]
    assert {"l", "r", "s", "a"} <= set(mine)
    assert (said["vanished"], said["resynced"]) == ("4:6", [1, 2, 3])
    assert server.answered("no") == {}


def _check_what_it_read(said: Any, inbox: list[accounts.Stored], folders: set[str]) -> None:
    assert said["id"]["name"] == "mailserver"
    assert said["namespace"]["personal"] == [["", "/"]]
    assert set(said["subscribed"]) == {encode(path).decode() for path in folders}
    assert "\\Trash" in said["options"]["Trash"]
    assert "\\HasChildren" in said["options"]["Lists"]
    assert said["status"] == {"UNSEEN": "1", "MESSAGES": "3"}
    assert said["selected"][0] == len(inbox)
    by_size = sorted(inbox, key=lambda each: (len(each.raw) + each.raw.count(b"\n"), each.uid))
    for key, order in {"ARRIVAL": inbox, "DATE": inbox, "FROM": inbox, "SIZE": by_size}.items():
        assert said["sorted"][key] == [str(each.uid) for each in order], key
    assert said["sorted"]["SUBJECT"] == [str(n) for n in (1, 2, 11, 12, 3, 4, 5, 6, 7, 8, 9, 10)]
    assert said["threads"] == len(inbox)
    assert said["found"] == ["4", "8"]
    assert said["unseen"] == [6, 1, 12, ["1", "4", "5", "8", "9", "12"]]
    for each in inbox:
        header = said["headers"][str(each.uid)]
        assert header["subject"] == f"message {each.uid - 1}"
        assert header["size"] == len(each.raw) + each.raw.count(b"\n")
    assert said["headers"]["4"]["flags"] == ["ANSWERED", "FORWARDED", "PROJECT-X", "RECENT"]
    assert said["headers"]["4"]["structure"][1][:2] == ["application", "octet-stream"]
    assert base64.b64decode(said["attachment"]) == accounts.ATTACHMENT
    assert said["text"] == "Grüße, number 0.\r\n.\r\nFrom here on:\r\n"
    assert base64.b64decode(said["source"]).replace(b"\r\n", b"\n") == inbox[1].raw
