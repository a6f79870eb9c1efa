"""A JMAP listener of the test's own, and a client of the standard library."""

import asyncio
import base64
import http.client
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio

from mailserver.app.web import WebServer
from mailserver.auth.credentials import Authenticator
from mailserver.auth.tokens import Tokens
from mailserver.config import Config, Listener
from mailserver.jmap.server import Application, application
from mailserver.mail.context import Mail

PASSWORD = "correct horse"
CORE, MAIL = "urn:ietf:params:jmap:core", "urn:ietf:params:jmap:mail"
URN = "urn:ietf:params:jmap:"
BLOB, QUOTA = URN + "blob", URN + "quota"


@dataclass
class Site:
    """A running listener, and what its readiness says."""

    host: str
    port: int
    app: Application
    problems: list[str]
    server: WebServer

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        login: str | None = "alice@example.test",
        headers: dict[str, str] | None = None,
    ) -> tuple[int, dict[str, str], bytes]:
        """Send one request on a connection of its own; blocks."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=60)
        sent = {"Content-Type": "application/json"} if body is not None else {}
        if login is not None:
            pair = base64.b64encode(f"{login}:{PASSWORD}".encode()).decode()
            sent["Authorization"] = f"Basic {pair}"
        connection.request(method, path, body, {**sent, **(headers or {})})
        answer = connection.getresponse()
        fields: dict[str, str] = {}
        for name, value in answer.getheaders():
            before = fields.get(name.lower())
            fields[name.lower()] = value if before is None else f"{before}, {value}"
        found = answer.status, fields, answer.read()
        connection.close()
        return found

    async def get(self, path: str, **options: Any) -> tuple[int, dict[str, str], bytes]:
        return await asyncio.to_thread(self.ask, "GET", path, **options)

    async def call(self, *calls: list[Any], **options: Any) -> list[Any]:
        using = options.pop("using", [CORE, MAIL])
        body = json.dumps({"using": using, "methodCalls": calls}).encode()
        status, _, answer = await asyncio.to_thread(self.ask, "POST", "/jmap/api", body, **options)
        assert status == 200, answer
        responses: list[Any] = json.loads(answer)["methodResponses"]
        return responses


@pytest.fixture
def config() -> Config:
    return Config.model_validate(
        {
            "server": {"hostname": "mail.example.test"},
            "http": {"max_request_size": 20_000, "max_upload_size": 30_000},
        }
    )


@pytest_asyncio.fixture
async def site(mail: Mail, tokens: Tokens) -> AsyncIterator[Site]:
    problems: list[str] = []

    async def ready() -> list[str]:
        return problems

    app = application(
        mail=mail,
        authenticator=Authenticator(mail.database, passwords=mail.passwords, tokens=tokens),
        ready=ready,
    )
    server = WebServer(app, mail.config.http, None)
    host, port = await server.start(Listener(port=0))
    yield Site(host, port, app, problems, server)
    app.drain()
    await server.stop(5)
