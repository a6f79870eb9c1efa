"""Push subscriptions: verified, encrypted, signed, and told of every change (RFC 8620 §7.2)."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec

from mailserver.config import Config
from mailserver.events import Hub
from mailserver.jmap.protocol.dates import render_utc
from mailserver.jmap.protocol.ids import account_text
from mailserver.jmap.protocol.push_keys import write_base64url
from mailserver.jmap.push import sender, vapid
from mailserver.jmap.push.client import Answer, PushClient
from mailserver.jmap.push.sender import Pusher
from mailserver.mail import accounts, delivery, push
from mailserver.mail.context import Mail
from mailserver.mail.delivery import Target
from mailserver.mail.sharing import Shares
from mailserver.model import Account
from tests import webpush
from tests.conftest import Bucketed, make_mail
from tests.integration.conftest import Tls
from tests.integration.jmap.conftest import CORE, URN, Site

RAW = b"From: Carol <carol@example.org>\r\nSubject: Hello\r\n\r\nHow are you?\r\n"
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@dataclass
class Service:
    """A push service on this machine, and what came to it."""

    url: str
    key: ec.EllipticCurvePrivateKey = field(
        default_factory=lambda: ec.generate_private_key(ec.SECP256R1())
    )
    auth: bytes = field(default_factory=lambda: os.urandom(16))
    answers: list[int | dict[str, Any]] = field(default_factory=list)  # else 201
    came: asyncio.Queue[tuple[dict[str, str], bytes]] = field(default_factory=asyncio.Queue)

    @property
    def keys(self) -> dict[str, str]:
        return {
            "p256dh": write_base64url(webpush.point(self.key)), "auth": write_base64url(self.auth)
        }  # fmt: skip

    async def next(self) -> tuple[dict[str, str], Any]:
        """Return the headers and the JSON of the next message."""
        headers, body = await asyncio.wait_for(self.came.get(), 60)
        if headers.get("content-encoding") == "aes128gcm":
            body = webpush.decrypt(body, self.key, self.auth)
        return headers, json.loads(body)


@pytest_asyncio.fixture
async def service(tls: Tls) -> AsyncIterator[Service]:
    async def take(request: web.Request) -> web.StreamResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        found.came.put_nowait((headers, await request.read()))
        answer = found.answers.pop(0) if found.answers else 201
        if isinstance(answer, int):
            return web.Response(status=answer)
        return web.Response(**answer)

    app = web.Application()
    app.router.add_post("/{rest:.*}", take)
    runner = web.AppRunner(app)
    await runner.setup()
    listener = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls.server)
    await listener.start()
    port = runner.addresses[0][1]
    found = Service(f"https://localhost:{port}/device")
    yield found
    await runner.cleanup()


@pytest.fixture
def config(tls: Tls) -> Config:
    return Config.model_validate(
        {
            "server": {"hostname": "mail.example.test"},
            "push": {"allow_private": True, "ca": tls.ca},
        }
    )


Start = Callable[..., Any]


@pytest_asyncio.fixture
async def start() -> AsyncIterator[Start]:
    """Start a sender as a process does; a later one stops with the test too."""
    running: list[tuple[asyncio.Task[None], PushClient]] = []

    async def begin(mail: Mail, name: str = "one") -> asyncio.Task[None]:
        client = PushClient(mail.config.push)
        pusher = Pusher(mail, Shares(mail), client, await vapid.load(mail))
        task = asyncio.create_task(pusher.run(name))
        running.append((task, client))
        return task

    yield begin
    for task, client in running:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await client.close()


@pytest.fixture
def call(site: Site) -> Any:
    async def run(method: str, login: str = "alice@example.test", **arguments: Any) -> Any:
        (answer,) = await site.call(
            [f"PushSubscription/{method}", arguments, "0"], using=[CORE], login=login
        )
        return answer[1]

    return run


async def subscribe(call: Any, service: Service, **more: Any) -> str:
    """Subscribe and give the code back."""
    new = {"deviceClientId": "phone", "url": service.url, **more}
    made = (await call("set", create={"a": new}))["created"]["a"]
    _, message = await service.next()
    assert message["@type"] == "PushVerification"
    assert message["pushSubscriptionId"] == made["id"]
    code = {"verificationCode": message["verificationCode"]}
    answer = await call("set", update={made["id"]: code})
    assert answer["updated"] == {made["id"]: None}
    found: str = made["id"]
    return found


async def arrive(mail: Mail, account: Account) -> str:
    accepted = await delivery.accept(mail, RAW, [Target(account.id)], received_at=NOW)
    return str(accepted.delivered[0].modseq)


async def test_set_and_get(call: Any, service: Service, alice: Account, bob: Account) -> None:
    soon = render_utc(datetime.now(UTC) + timedelta(days=1))
    late = render_utc(datetime.now(UTC) + timedelta(days=70))
    new = {"deviceClientId": "phone", "url": service.url}
    answer = await call(
        "set",
        create={
            "plain": new,
            "full": {**new, "keys": service.keys, "types": ["Email"], "expires": soon},
            "late": {**new, "expires": late},
        },
    )
    assert answer.keys() == {
        "created", "updated", "destroyed", "notCreated", "notUpdated", "notDestroyed",
    }  # fmt: skip
    made = answer["created"]
    assert made["full"].keys() == {"id", "verificationCode"}
    assert made["late"]["expires"] < late
    assert made["plain"]["keys"] is None
    ids = {name: each["id"] for name, each in made.items()}

    answer = await call("get", ids=None)
    assert answer.keys() == {"list", "notFound"}
    assert {each["id"] for each in answer["list"]} == set(ids.values())
    (full,) = (await call("get", ids=[ids["full"]]))["list"]
    assert full == {
        "id": ids["full"], "deviceClientId": "phone", "verificationCode": None, "expires": soon,
        "types": ["Email"],
    }  # fmt: skip
    for secret in ("url", "keys"):
        assert (await call("get", ids=None, properties=[secret]))["type"] == "forbidden"
    assert (await call("get", bob.login, ids=None))["list"] == []
    answer = await call("get", bob.login, ids=[ids["full"], "x"])
    assert answer["notFound"] == [ids["full"], "x"]

    answer = await call("set", update={ids["full"]: {"types": None, "expires": late}})
    assert answer["updated"][ids["full"]]["expires"] < late
    for patch, wrong in (
        ({"url": "https://elsewhere.example.org/"}, "url"),
        ({"keys": None}, "keys"),
        ({"deviceClientId": "other"}, "deviceClientId"),
        ({"verificationCode": "guess"}, "verificationCode"),
        ({"expires": "2020-01-01T00:00:00Z"}, "expires"),
        ({"colour": "red"}, "colour"),
    ):
        answer = await call("set", update={ids["full"]: patch})
        error = answer["notUpdated"][ids["full"]]
        assert (error["type"], error["properties"]) == ("invalidProperties", [wrong])
    gone = await call("set", bob.login, destroy=[ids["full"]], update={ids["late"]: {}})
    assert gone["notDestroyed"][ids["full"]]["type"] == "notFound"
    assert gone["notUpdated"][ids["late"]]["type"] == "notFound"
    answer = await call("set", destroy=[*ids.values(), "x"])
    assert set(answer["destroyed"]) == set(ids.values())
    assert answer["notDestroyed"] == {"x": {"type": "notFound"}}


@pytest.mark.parametrize(
    ("values", "wrong"),
    [
        ({"url": "http://push.example.org/"}, "url"),
        ({"url": "https://user:pass@push.example.org/"}, "url"),
        ({"url": 7}, "url"),
        ({"deviceClientId": ""}, "deviceClientId"),
        ({"deviceClientId": None}, "deviceClientId"),
        ({"keys": {"p256dh": "x", "auth": "y"}}, "keys"),
        ({"keys": {}}, "keys"),
        ({"expires": "tomorrow"}, "expires"),
        ({"expires": "2020-01-01T00:00:00Z"}, "expires"),
        ({"types": "Email"}, "types"),
        ({"verificationCode": "x"}, "verificationCode"),
        ({"id": "p1"}, "id"),
    ],
)
async def test_bad_subscriptions(call: Any, alice: Account, values: Any, wrong: str) -> None:
    new = {"deviceClientId": "phone", "url": "https://push.example.org/", **values}
    error = (await call("set", create={"a": new}))["notCreated"]["a"]
    assert (error["type"], error["properties"]) == ("invalidProperties", [wrong])
    assert (await call("set", accountId="a1"))["type"] == "invalidArguments"


async def test_an_account_has_so_many(
    call: Any, alice: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(push, "MAX_SUBSCRIPTIONS", 2)
    new = {"deviceClientId": "phone", "url": "https://push.example.org/"}
    answer = await call("set", create=dict.fromkeys(("a", "b", "c"), new))
    assert answer["created"].keys() == {"a", "b"}
    assert answer["notCreated"]["c"]["type"] == "rateLimit"


@pytest.mark.parametrize("encrypted", [False, True])
async def test_a_device_is_told(
    site: Site, call: Any, service: Service, mail: Mail, alice: Account, start: Start,
    encrypted: bool,
) -> None:  # fmt: skip
    await start(mail)
    more = {"keys": service.keys} if encrypted else {}
    name = await subscribe(call, service, types=["Email", "Mailbox"], **more)
    state = await arrive(mail, alice)
    headers, message = await service.next()
    assert message == {
        "@type": "StateChange",
        "changed": {account_text(alice.id): {"Email": state, "Mailbox": state}},
    }
    assert int(headers["ttl"]) > 0
    kind = "application/octet-stream" if encrypted else "application/json"
    assert headers["content-type"] == kind
    # the signature is of the key that the session shows
    _, _, body = await site.get("/jmap/api")
    shown = json.loads(body)["capabilities"][URN + "webpush-vapid"]["applicationServerKey"]
    assert headers["authorization"].endswith(f"k={shown}")
    (found,) = (await call("get", ids=[name]))["list"]
    assert found["verificationCode"]

    # nothing is sent before the code came back, and nothing after the end, however late the
    # sender hears of it
    second = (await call("set", create={"b": {"deviceClientId": "b", "url": service.url}}))[
        "created"
    ]["b"]["id"]
    _, message = await service.next()
    assert message["pushSubscriptionId"] == second
    await call("set", destroy=[name])
    await arrive(mail, alice)
    third = (await call("set", create={"c": {"deviceClientId": "c", "url": service.url}}))[
        "created"
    ]["c"]["id"]
    _, message = await service.next()
    assert message.get("pushSubscriptionId") == third


async def test_what_a_service_refuses_comes_later(
    call: Any, service: Service, mail: Mail, alice: Account, start: Start,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(sender, "FIRST_RETRY", 0.05)
    monkeypatch.setattr(sender, "GAP", 0.0)
    await start(mail)
    elsewhere = {"status": 307, "headers": {"Location": service.url}}
    await subscribe(call, service)
    service.answers[:] = [500, elsewhere, {"status": 429, "headers": {"Retry-After": "0"}}]
    state = await arrive(mail, alice)
    own = account_text(alice.id)
    told = [(await service.next())[1] for _ in range(4)]
    assert [each["changed"][own]["Email"] for each in told] == [state] * 4
    # a device that is gone is forgotten
    service.answers[:] = [410]
    await arrive(mail, alice)
    await service.next()
    while (await call("get", ids=None))["list"]:
        await asyncio.sleep(0.01)


async def test_nothing_is_lost_when_a_process_dies(
    call: Any, service: Service, mail: Mail, alice: Account, start: Start, bucket: Bucketed,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    first = await start(mail)
    await subscribe(call, service)
    await arrive(mail, alice)
    await service.next()
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    state = await arrive(mail, alice)
    # another process, which hears of changes from the store alone, takes over
    other = make_mail(mail.database, bucket.blobs, mail.config, node=2)
    other.events = Hub()
    later = mail.now() + sender.LEASE_TIME + timedelta(seconds=1)
    other.now = lambda: later
    await start(other, "two")
    _, message = await service.next()
    assert message["changed"][account_text(alice.id)]["Email"] == state
    other.passwords.close()


async def test_a_new_password_ends_subscriptions(
    call: Any, site: Site, service: Service, mail: Mail, alice: Account
) -> None:
    new = {"deviceClientId": "phone", "url": service.url}
    assert (await call("set", create={"a": new}))["created"]
    await accounts.set_password(mail, alice.login, "correct horse")
    assert (await call("get", ids=None))["list"] == []


async def test_a_device_is_told_nothing_after_a_new_password(
    call: Any, service: Service, mail: Mail, alice: Account, start: Start
) -> None:
    await start(mail)
    await subscribe(call, service)
    await accounts.set_password(mail, alice.login, "correct horse")
    await arrive(mail, alice)
    new = {"deviceClientId": "other", "url": service.url}
    made = (await call("set", create={"a": new}))["created"]["a"]
    _, message = await service.next()
    assert message.get("pushSubscriptionId") == made["id"]


async def test_a_code_that_comes_back_before_its_sending_is_noted(
    call: Any, service: Service, mail: Mail, alice: Account
) -> None:
    await call("set", create={"a": {"deviceClientId": "phone", "url": service.url}})
    (made,) = await push.of_account(mail, alice.id)
    await push.verify(mail, alice.id, made, "a place")
    await push.note_asked(mail, made)
    (found,) = await push.of_account(mail, alice.id)
    assert (found.verified, found.told) == (True, "a place")


async def test_names_that_lead_inside_are_not_followed(service: Service, tls: Tls) -> None:
    client = PushClient(Config.model_validate({"push": {"ca": tls.ca}}).push)
    assert (await client.post(service.url, b"x", {})).status == 0
    assert (await client.post("https://127.0.0.1:1/", b"x", {})).status == 0
    await client.close()
    assert service.came.empty()


async def test_slow_push_services_of_one_account_hold_up_no_other(
    mail: Mail, alice: Account, bob: Account
) -> None:
    """However many messages of alice's devices are under way, bob's device gets its own."""
    asked, gate = 0, asyncio.Event()

    class Slow(PushClient):
        async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
            nonlocal asked
            asked += 1
            if "slow" in url:
                await gate.wait()
            return Answer(201, None)

    pusher = Pusher(mail, Shares(mail), Slow(mail.config.push), await vapid.load(mail))

    def device(account: Account, url: str) -> push.PushSubscription:
        return push.PushSubscription(account.id, 1, "d", url, None, "c", True, NOW, None)

    slow = [
        asyncio.create_task(pusher.deliver(device(alice, "https://push.test/slow"), {}))
        for _ in range(2 * sender.PARALLEL)
    ]
    async with asyncio.timeout(30):
        while asked < sender.PARALLEL_OF_ONE:
            await asyncio.sleep(0)
        assert (await pusher.deliver(device(bob, "https://push.test/x"), {})).status == 201
    assert asked == sender.PARALLEL_OF_ONE + 1
    gate.set()
    assert {each.status for each in await asyncio.gather(*slow)} == {201}
