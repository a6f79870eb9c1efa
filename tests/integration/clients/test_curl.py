"""curl lists, reads, searches, appends and marks."""

import base64
from pathlib import Path

from mailserver.mail.context import Mail
from mailserver.model import Account
from tests.integration.clients import account as accounts
from tests.integration.clients.conftest import Served
from tests.integration.clients.programs import run


async def test_curl(server: Served, mail: Mail, filled: Account, tmp_path: Path) -> None:
    config = tmp_path / "curlrc"
    config.write_text(
        f'user = "{accounts.LOGIN}:{accounts.PASSWORD}"\ncacert = "{server.ca}"\nsilent\nshow-error'
    )

    async def curl(*arguments: str | Path, url: str = "", port: int = server.imaps) -> str:
        scheme = "imaps" if port == server.imaps else "imap"
        where = f"{scheme}://localhost:{port}/{url}"
        return await run(["curl", "--config", config, "--ssl-reqd", where, *arguments])

    listed = await curl()
    assert '* LIST (\\HasChildren) "/" Lists\r\n' in listed
    assert '* LIST (\\HasNoChildren) "/" "Entw&APw-rfe &- Ideen"\r\n' in listed
    assert await curl(port=server.imap) == listed, "the same after STARTTLS"

    in_words, *_ = await accounts.contents(mail, filled, "Two Words")
    read = await curl(url=f"Two%20Words;UID={in_words.uid}")
    assert accounts.unmarked(read.encode()) == in_words.raw
    html = next(
        each for each in await accounts.contents(mail, filled, "INBOX") if b"text/html" in each.raw
    )
    part = await curl(url=f"INBOX;UID={html.uid};SECTION=2")
    assert base64.b64decode(part) == accounts.ATTACHMENT
    assert await curl(url="INBOX?SUBJECT%20%22message%205%22") == "* SEARCH 6\r\n"

    added = tmp_path / "added"
    added.write_bytes(accounts.message("from curl", number=300, html=True))
    await curl("--upload-file", added, url="Lists/&ZeVnLIqe-".replace("&", "%26"))
    stored = (await accounts.contents(mail, filled, "Lists/日本語"))[-1]
    assert stored.raw == accounts.unmarked(added.read_bytes())
    await curl("--request", "STORE 1 +Flags \\Deleted", url="Two%20Words")
    await curl("--request", "EXPUNGE", url="Two%20Words")
    left = await accounts.contents(mail, filled, "Two Words")
    assert in_words.uid not in {each.uid for each in left}
    assert len(left) == accounts.FOLDERS["Two Words"] - 1
    assert server.answered("no") == {}
