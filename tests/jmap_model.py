"""A JMAP client that keeps everything in memory and follows it by /changes and /queryChanges."""

import base64
import json
from collections.abc import MutableMapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

from mailserver.jmap.server import Application

USING = ["urn:ietf:params:jmap:core", "urn:ietf:params:jmap:mail"]
EMAIL_PROPERTIES = ["threadId", "mailboxIds", "keywords"]
COUNTS = {"totalEmails", "unreadEmails", "totalThreads", "unreadThreads"}


class MethodFailed(Exception):
    """A method call was answered with an error; the text is its type."""


@dataclass
class View:
    """The result of one query, and what was asked."""

    method: str  # "Email" or "Mailbox"
    arguments: dict[str, Any]
    ids: list[str] = field(default_factory=list)
    state: str = ""
    total: int = 0


class JmapClient:
    """One client of one account."""

    def __init__(self, app: Application, account: str, login: str, password: str) -> None:
        self.app = app
        self.account = account
        self._basic = base64.b64encode(f"{login}:{password}".encode())
        self.objects: dict[str, dict[str, Any]] = {"Email": {}, "Thread": {}, "Mailbox": {}}
        self.states: dict[str, str] = {}
        self.views: list[View] = []

    async def post(self, body: bytes) -> tuple[int, Any]:
        """Send an API request through the application, without a socket."""
        sent: list[MutableMapping[str, Any]] = []

        async def receive() -> MutableMapping[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: MutableMapping[str, Any]) -> None:
            sent.append(message)

        scope = {
            "type": "http", "method": "POST", "scheme": "http", "path": "/jmap/api",
            "client": ("127.0.0.1", 1),
            "headers": [
                (b"host", b"mail.example.test"),
                (b"content-type", b"application/json"),
                (b"authorization", b"Basic " + self._basic),
            ],
        }  # fmt: skip
        await self.app(scope, receive, send)
        return sent[0]["status"], json.loads(b"".join(each.get("body", b"") for each in sent[1:]))

    async def call(self, method: str, **arguments: Any) -> Any:
        """Make one call and return the arguments of its response; MethodFailed."""
        call = [method, {"accountId": self.account, **arguments}, "0"]
        status, answer = await self.post(
            json.dumps({"using": USING, "methodCalls": [call]}).encode()
        )
        assert status == 200, answer
        ((name, found, _),) = answer["methodResponses"]
        if name == "error":
            raise MethodFailed(found["type"])
        assert name == method
        return found

    # Changing ------------------------------------------------------------------------------------

    async def change(self, random: Random) -> None:
        """Change something that this client knows; what was changed meanwhile is not."""
        emails, mailboxes = list(self.objects["Email"]), list(self.objects["Mailbox"])
        email = random.choice(emails or ["nothing"])
        mailbox, other = random.choice(mailboxes), random.choice(mailboxes)
        flag = random.choice(["$seen", "$flagged", "work"])
        name = random.choice("abcde")
        draft = {
            "mailboxIds": {mailbox: True},
            "keywords": {flag: True},
            "subject": random.choice(["Lunch", "Re: Lunch"]),
            "textBody": [{"partId": "1", "type": "text/plain"}],
            "bodyValues": {"1": {"value": "x" * random.randrange(99)}},
        }
        changes: list[tuple[str, dict[str, Any]]] = [
            ("Email", {"update": {email: {f"keywords/{flag}": random.choice([True, None])}}}),
            ("Email", {"update": {each: {"keywords": {}} for each in emails[:2]}}),
            ("Email", {"update": {email: {f"mailboxIds/{mailbox}": True}}}),
            ("Email", {"update": {email: {"mailboxIds": {mailbox: True, other: True}}}}),
            ("Email", {"update": {email: {"mailboxIds": {mailbox: True}}}}),
            ("Email", {"destroy": [email]}),
            ("Email", {"create": {"new": draft}}),
            ("Email", {"create": {"new": draft}, "destroy": [email]}),
            ("Mailbox", {"create": {"new": {"name": name, "parentId": None}}}),
            ("Mailbox", {"create": {"new": {"name": name, "parentId": mailbox}}}),
            ("Mailbox", {"update": {mailbox: {"name": name}}}),
            ("Mailbox", {"update": {mailbox: {"parentId": other}}}),
            ("Mailbox", {"update": {mailbox: {"sortOrder": random.randrange(20)}}}),
            ("Mailbox", {"update": {mailbox: {"isSubscribed": random.random() < 0.5}}}),
            ("Mailbox", {"destroy": [mailbox]}),
            ("Mailbox", {"destroy": [mailbox], "onDestroyRemoveEmails": True}),
        ]
        kind, arguments = random.choice(changes)
        await self.call(f"{kind}/set", **arguments)

    # What is there now ---------------------------------------------------------------------------

    async def everything(self) -> dict[str, dict[str, Any]]:
        """Return all objects as they are now, and remember the states."""
        emails = await self.call("Email/get", ids=None, properties=EMAIL_PROPERTIES)
        threads = await self.call(
            "Thread/get", ids=sorted({each["threadId"] for each in emails["list"]})
        )
        mailboxes = await self.call("Mailbox/get", ids=None)
        found = {"Email": emails, "Thread": threads, "Mailbox": mailboxes}
        self.states = {name: answer["state"] for name, answer in found.items()}
        return {
            name: {each["id"]: each for each in answer["list"]} for name, answer in found.items()
        }

    async def load(self) -> None:
        """Begin with what is there."""
        self.objects = await self.everything()
        for view in self.views:
            view.ids, view.state, view.total = await self.fresh(view)

    async def fresh(self, view: View) -> tuple[list[str], str, int]:
        """Return the result of a query as it is now, with its state and total."""
        found = await self.call(f"{view.method}/query", **view.arguments, calculateTotal=True)
        assert found["canCalculateChanges"]
        return found["ids"], found["queryState"], found["total"]

    # Following -----------------------------------------------------------------------------------

    async def sync(self, random: Random) -> None:
        """Learn what changed since the last time."""
        await self._follow("Email", random.choice([None, 1, 2, 5]), EMAIL_PROPERTIES)
        await self._follow("Thread", None, None)
        await self._follow("Mailbox", None, None)
        for view in self.views:
            await self._splice(view, total=random.random() < 0.5)

    async def _follow(self, kind: str, most: int | None, properties: list[str] | None) -> None:
        more = True
        while more:
            arguments: dict[str, Any] = {"sinceState": self.states[kind], "maxChanges": most}
            found = await self.call(f"{kind}/changes", **arguments)
            assert found["oldState"] == self.states[kind]
            changed = [*found["created"], *found["updated"], *found["destroyed"]]
            assert len(changed) == len(set(changed))
            assert most is None or len(changed) <= most
            more = found["hasMoreChanges"]
            assert not more or found["newState"] != self.states[kind]
            self.states[kind] = found["newState"]
            known = self.objects[kind]
            if most is None:  # in between it may have been hidden, which no page told
                assert not known.keys() & set(found["created"]), "created what was known"
            assert known.keys() >= set(found["updated"]), "updated what was never created"
            wanted = properties
            if found.get("updatedProperties"):
                assert not found["created"]
                wanted = found["updatedProperties"]
            await self._read(kind, [*found["created"], *found["updated"]], wanted)
            for each in found["destroyed"]:
                known.pop(each, None)

    async def _read(self, kind: str, ids: list[str], properties: list[str] | None) -> None:
        known = self.objects[kind]
        answer = await self.call(f"{kind}/get", ids=ids, properties=properties)
        for each in answer["list"]:
            known[each["id"]] = known.get(each["id"], {}) | each
        for each in answer["notFound"]:  # destroyed since; the next /changes says so
            known.pop(each, None)

    async def _splice(self, view: View, *, total: bool) -> None:
        """Bring a result up to date as RFC 8620 §5.6 says."""
        found = await self.call(
            f"{view.method}/queryChanges",
            **view.arguments,
            sinceQueryState=view.state,
            calculateTotal=total,
        )
        assert found["oldQueryState"] == view.state
        removed = set(found["removed"])
        assert len(removed) == len(found["removed"])
        view.ids = [each for each in view.ids if each not in removed]
        indexes = [each["index"] for each in found["added"]]
        assert indexes == sorted(indexes)
        for each in found["added"]:
            assert each["id"] not in view.ids
            view.ids.insert(each["index"], each["id"])
        view.state = found["newQueryState"]
        if total:
            assert found["total"] == len(view.ids)

    async def check(self) -> None:
        """Compare what was followed with what is there; nobody changes anything meanwhile."""
        states = dict(self.states)
        there = await self.everything()
        assert self.states == states
        for kind, known in self.objects.items():
            assert known == there[kind], kind
        for view in self.views:
            ids, state, total = await self.fresh(view)
            assert (view.ids, len(view.ids)) == (ids, total), view.arguments
            assert view.state == state
