"""A JMAP client without sockets: one account, one request after another."""

import base64
import json
from collections.abc import MutableMapping
from typing import Any

import pytest

from mailserver.antispam.trace import Journal
from mailserver.auth.credentials import Authenticator
from mailserver.jmap.protocol.ids import account_text, email_text
from mailserver.jmap.server import Application, application
from mailserver.mail.context import Mail
from mailserver.model import Account
from tests.conftest import PASSWORD

USING = [
    "urn:ietf:params:jmap:core",
    "urn:ietf:params:jmap:mail",
    "urn:ietf:params:jmap:submission",
    "urn:ietf:params:jmap:vacationresponse",
]


async def all_is_well() -> list[str]:
    return []


class Client:
    """What a program of one user asks."""

    email = staticmethod(email_text)

    def __init__(self, app: Application, account: Account) -> None:
        self._app = app
        self._account = account
        credentials = base64.b64encode(f"{account.login}:{PASSWORD}".encode())
        self._headers = [
            (b"host", b"mail.example.test"),
            (b"content-type", b"application/json"),
            (b"authorization", b"Basic " + credentials),
        ]

    async def calls(self, *calls: list[Any]) -> list[Any]:
        """Make calls in one request; return the responses."""
        numbered = [
            [name, {"accountId": account_text(self._account.id), **arguments}, str(number)]
            for number, (name, arguments) in enumerate(calls)
        ]
        body = json.dumps({"using": USING, "methodCalls": numbered}).encode()
        sent: list[MutableMapping[str, Any]] = []

        async def receive() -> MutableMapping[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: MutableMapping[str, Any]) -> None:
            sent.append(message)

        scope = {
            "type": "http", "method": "POST", "scheme": "http", "path": "/jmap/api",
            "client": ("127.0.0.1", 1), "headers": self._headers,
        }  # fmt: skip
        await self._app(scope, receive, send)
        assert sent[0]["status"] == 200, sent
        answer = json.loads(b"".join(each.get("body", b"") for each in sent[1:]))
        responses: list[Any] = answer["methodResponses"]
        return responses

    async def call(self, method: str, **arguments: Any) -> dict[str, Any]:
        """Make one call that succeeds; return its response."""
        name, response, _ = (await self.calls([method, arguments]))[0]
        assert name == method, response
        found: dict[str, Any] = response
        return found

    async def refused(self, method: str, **arguments: Any) -> str:
        """Make one call that fails; return the type of the error."""
        ((name, response, _),) = await self.calls([method, arguments])
        assert name == "error", response
        return str(response["type"])


def client_of(mail: Mail, account: Account, journal: Journal | None = None) -> Client:
    """Return a client of an account."""
    app = application(
        mail=mail,
        authenticator=Authenticator(mail.database, passwords=mail.passwords),
        ready=all_is_well,
        journal=journal,
    )
    return Client(app, account)


@pytest.fixture
def client(mail: Mail, alice: Account) -> Client:
    """The client of alice."""
    return client_of(mail, alice)
