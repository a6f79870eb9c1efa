"""imapflow: read, write, be told, and come back after a while."""

import asyncio
import base64
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from mailserver.mail.context import Mail
from mailserver.model import Account
from tests import oidc
from tests.integration.clients import account as accounts
from tests.integration.clients.conftest import Served
from tests.integration.clients.programs import TIME_LIMIT, ProgramFailed, install

FOLDER = Path(__file__).parent / "imapflow"


@pytest_asyncio.fixture(scope="session")
async def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the script and the packages it needs."""
    folder = tmp_path_factory.mktemp("imapflow") / "client"
    shutil.copytree(FOLDER, folder)
    await install(folder)
    return folder


class Imapflow:
    """The script as it runs: JSON values, one a line."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def says(self) -> Any:
        assert self._process.stdout is not None
        line = await asyncio.wait_for(self._process.stdout.readline(), TIME_LIMIT)
        if not line:
            assert self._process.stderr is not None
            raise ProgramFailed((await self._process.stderr.read()).decode())
        return json.loads(line)

    def give(self, octets: bytes) -> None:
        """Write all of its input."""
        assert self._process.stdin is not None
        self._process.stdin.write(octets)
        self._process.stdin.close()


@asynccontextmanager
async def _imapflow(
    folder: Path, server: Served, scenario: str, port: int, secret: str = accounts.PASSWORD
) -> AsyncIterator[Imapflow]:
    process = await asyncio.create_subprocess_exec(
        "node", folder / "client.mjs", scenario, str(port), server.ca,
        accounts.LOGIN, secret,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE, limit=2**24,
    )  # fmt: skip
    try:
        yield Imapflow(process)
        assert await asyncio.wait_for(process.wait(), TIME_LIMIT) == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest.mark.parametrize("security", ["tls", "starttls"])
async def test_imapflow_reads(
    server: Served, mail: Mail, filled: Account, folder: Path, security: str
) -> None:
    port = server.imaps if security == "tls" else server.imap
    async with _imapflow(folder, server, f"read:{security}", port) as client:
        said = await client.says()
    counts = {"INBOX": accounts.INBOX_COUNT, **accounts.FOLDERS}
    assert {path: found[0] for path, found in said["folders"].items()} == {
        path: counts.get(path, 0) for path in await accounts.paths(mail, filled)
    }
    assert {path for path, found in said["folders"].items() if found[2]} == (
        await accounts.subscribed(mail, filled)
    )
    assert said["folders"]["Trash"][1] == "\\Trash"
    assert said["nested"] == "Lists"
    assert said["status"] == {"path": "Two Words", "messages": 3, "uidNext": 4, "unseen": 1}
    stored = await accounts.contents(mail, filled, "INBOX")
    for told, each in zip(said["messages"], stored, strict=True):
        assert told["source"].replace("\r\n", "\n").encode() == each.raw
        assert told["size"] == len(told["source"].encode())
        assert (told["uid"], told["flags"]) == (each.uid, sorted(each.flags))
        assert datetime.fromisoformat(told["date"]) == each.received_at
        assert told["subject"] == f"message {each.uid - 1}"
        assert told["from"] == {"name": "Jürgen", "address": "juergen@example.org"}
    assert said["messages"][3]["type"] == "multipart/mixed"
    assert said["filename"] == "bytes"
    assert said["found"] == [12]
    assert said["unicode"] == [8]
    assert said["either"] == [3, 4, 7, 8, 11, 12]
    assert base64.b64decode(said["attachment"]) == accounts.ATTACHMENT
    assert said["many"] == ["1", "2"]
    assert said["quota"]["path"] == "INBOX"
    assert said["id"]["name"] == "mailserver"
    assert said["enabled"] == ["CONDSTORE", "IMAP4REV2", "UTF8=ACCEPT"]
    assert server.answered("ok")["COMPRESS"] == 1
    assert server.answered("no") == {}


async def test_imapflow_writes(server: Served, mail: Mail, filled: Account, folder: Path) -> None:
    raw = accounts.message("by imapflow", number=50, html=True)
    async with _imapflow(folder, server, "write", server.imaps) as client:
        client.give(raw)
        said = await client.says()
    assert said == {
        "created": "Lists/Neue Ä Kiste",
        "appended": 1,
        "copied": [[3, 1]],
        "moved": [[4, 2], [5, 3]],
    }
    new = await accounts.contents(mail, filled, "Lists/Neue Ä Kiste")
    assert new[0].raw == accounts.unmarked(raw)
    assert new[0].flags == {"\\Seen", "Mine"}
    assert new[0].received_at == datetime(2026, 2, 3, 4, 5, 6, tzinfo=UTC)
    assert [each.flags for each in new[1:]] == [{"\\Answered", "$Forwarded", "project-x"}, {"Only"}]
    assert await accounts.subjects(mail, filled, "Archive") == ["message 2"]
    left = {each.uid: each.flags for each in await accounts.contents(mail, filled, "INBOX")}
    assert set(left) == {1, 2, 3, 7, 8, 9, 10, 11, 12}
    assert left[1] == left[2] == {"\\Flagged"}
    assert not any("\\Seen" in flags for flags in left.values())
    there = await accounts.paths(mail, filled)
    assert "Three Little Words" in there
    assert not {"empty", "Two Words"} & there
    assert "Lists/Neue Ä Kiste" in await accounts.subscribed(mail, filled)
    assert server.answered("no") == {}


async def test_imapflow_logs_in_with_a_token(
    server: Served, filled: Account, folder: Path, issuer: oidc.Issuer
) -> None:
    token = issuer.token(filled.login)
    async with _imapflow(folder, server, "token", server.imaps, token) as client:
        assert await client.says() == {"exists": accounts.INBOX_COUNT}
    assert "LOGIN" not in server.answered("ok")


async def test_imapflow_is_told(server: Served, mail: Mail, filled: Account, folder: Path) -> None:
    async with _imapflow(folder, server, "listen", server.imaps) as client:
        assert await client.says() == "idling"
        await accounts.put(mail, filled, "INBOX", accounts.message("news"))
        assert await client.says() == {"told": ["exists", 12, 13]}
        await accounts.mark(mail, filled, "INBOX", [2], "\\Flagged")
        assert await client.says() == {"told": ["flags", 2, ["\\Flagged", "\\Seen"]]}
        await accounts.mark(mail, filled, "INBOX", [5], "\\Deleted")
        assert await client.says() == {"told": ["flags", 5, ["\\Deleted"]]}
        await accounts.remove(mail, filled, "INBOX", [5])
        assert await client.says() == {"told": ["expunge", 5]}
        assert await client.says() == {"newest": "news"}
    assert server.answered("ok")["IDLE"] == 1
    assert server.answered("no") == {}


async def test_imapflow_comes_back(
    server: Served, mail: Mail, filled: Account, folder: Path
) -> None:
    async with _imapflow(folder, server, "resume", server.imaps) as client:
        assert await client.says() == "away"
        await accounts.mark(mail, filled, "INBOX", [2], "\\Flagged")
        await accounts.remove(mail, filled, "INBOX", [5, 6])
        await accounts.put(mail, filled, "INBOX", accounts.message("news"))
        client.give(b"")
        said = await client.says()
    assert "QRESYNC" in said["enabled"]
    assert [uid for uid, _ in said["changed"]] == [2, 13]
    assert said["gone"] == [[5, True, True], [6, True, True]]
    assert server.answered("no") == {}
