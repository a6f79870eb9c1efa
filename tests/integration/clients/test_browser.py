"""A page in Chromium that uses JMAP from another origin: fetch, an event stream, a WebSocket."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web

from mailserver.app.web import WebServer
from mailserver.auth.credentials import Authenticator
from mailserver.config import Listener
from mailserver.jmap.server import application
from mailserver.mail.context import Mail
from mailserver.model import Account
from tests.conftest import PASSWORD

pytestmark = pytest.mark.clients_heavy

PAGE = Path(__file__).parent / "browser" / "page.html"
MESSAGE = "From: Carol <carol@example.org>\r\nSubject: From a page\r\n\r\nHello\r\n"
TIME_LIMIT = 90.0  # seconds


@dataclass(frozen=True)
class Origin:
    """Where the page comes from, and what it has found out."""

    url: str
    given: dict[str, str]
    found: "asyncio.Future[Any]"


@pytest_asyncio.fixture
async def jmap(mail: Mail) -> AsyncIterator[str]:
    async def ready() -> list[str]:
        return []

    authenticator = Authenticator(mail.database, passwords=mail.passwords)
    app = application(mail=mail, authenticator=authenticator, ready=ready)
    server = WebServer(app, mail.config.http, None)
    host, port = await server.start(Listener(port=0))
    yield f"http://{host}:{port}/.well-known/jmap"
    app.drain()
    await server.stop(5)


@pytest_asyncio.fixture
async def origin(jmap: str, alice: Account) -> AsyncIterator[Origin]:
    found: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    given = {"session": jmap, "login": alice.login, "password": PASSWORD, "message": MESSAGE}

    async def page(request: web.Request) -> web.StreamResponse:
        return web.FileResponse(PAGE)

    async def give(request: web.Request) -> web.StreamResponse:
        return web.json_response(given)

    async def take(request: web.Request) -> web.StreamResponse:
        found.set_result(json.loads(await request.read()))
        return web.Response()

    app = web.Application()
    app.add_routes([web.get("/", page), web.get("/given", give), web.post("/found", take)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield Origin(f"http://127.0.0.1:{runner.addresses[0][1]}/", given, found)
    await runner.cleanup()


async def test_a_page_of_another_origin(origin: Origin, tmp_path: Path) -> None:
    browser = await asyncio.create_subprocess_exec(
        "chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run",
        f"--user-data-dir={tmp_path}", origin.url,
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        found = await asyncio.wait_for(origin.found, TIME_LIMIT)
    finally:
        browser.terminate()
        await browser.wait()
    assert "error" not in found, found
    assert found["refused"] == 401
    assert found["part"] == "From:"
    assert found["etag"]
    assert found["subprotocol"] == "jmap"
    assert found["response"]["requestId"] == "import"
    (response,) = found["response"]["methodResponses"]
    assert response[1]["created"]["a"]["id"]
    assert found["change"].keys() == {"Email"}
    assert "event: state\n" in found["streamed"]
    assert found["change"]["Email"] in found["streamed"]
