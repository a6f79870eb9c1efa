"""JMAP and the web face over sockets: uvicorn, curl, and a client of the standard library."""

import asyncio
import base64
import hashlib
import json
from datetime import UTC, datetime
from http.client import RemoteDisconnected
from typing import Any

import pytest
import pytest_asyncio

from mailserver.jmap.methods import changes
from mailserver.jmap.protocol.errors import RequestError
from mailserver.jmap.protocol.ids import account_text, email_text
from mailserver.jmap.server.blobs import Uploads
from mailserver.jmap.server.replies import Message
from mailserver.jmap.session import Limits
from mailserver.mail import delivery, mailboxes, rights
from mailserver.mail.context import Mail
from mailserver.mail.delivery import Accepted, Target
from mailserver.model import Account, Right, RightsChange
from mailserver.storage import accounts
from mailserver.storage.database import Database
from tests import oidc
from tests.integration.jmap.conftest import BLOB, CORE, MAIL, PASSWORD, QUOTA, Site

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
ATTACHMENT = bytes(range(256)) * 20
RAW = (
    b"From: Carol <carol@example.org>\r\nTo: alice@example.test\r\nSubject: With a file\r\n"
    b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n"
    b"--x\r\nContent-Type: text/plain\r\n\r\nSee the file.\r\n"
    b"--x\r\nContent-Type: application/x-thing; name=thing.bin\r\n"
    b"Content-Disposition: attachment\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    + base64.encodebytes(ATTACHMENT).replace(b"\n", b"\r\n")
    + b"--x--\r\n"
)


@pytest_asyncio.fixture
async def letter(mail: Mail, alice: Account) -> Accepted:
    return await delivery.accept(mail, RAW, [Target(alice.id)], received_at=NOW)


async def test_access_tokens(site: Site, alice: Account, issuer: oidc.Issuer) -> None:
    async def answer(authorization: str) -> tuple[int, dict[str, str], bytes]:
        return await site.get("/jmap/api", login=None, headers={"Authorization": authorization})

    status, _, body = await answer(f"Bearer {issuer.token()}")
    assert status == 200
    assert json.loads(body)["username"] == alice.login
    for bad in (issuer.token(aud="other"), "a b", "", "x" * 20_000):
        status, headers, body = await answer(f"bearer {bad}")
        assert status == 401
        assert "Bearer" in headers["www-authenticate"]
        assert b"aud" not in body


async def test_session_object(site: Site, alice: Account) -> None:
    for path in ("/.well-known/jmap", "/jmap/api"):
        status, headers, body = await site.get(path)
        assert status == 200
        session = json.loads(body)
        assert headers["etag"] == f'"{session["state"]}"'
    base = f"http://{site.host}:{site.port}"
    assert session["apiUrl"] == f"{base}/jmap/api"
    for name, variables in (
        ("downloadUrl", ("accountId", "blobId", "type", "name")),
        ("uploadUrl", ("accountId",)),
        ("eventSourceUrl", ("types", "closeafter", "ping")),
    ):
        assert session[name].startswith(base)
        assert all("{" + variable + "}" in session[name] for variable in variables)
    account = account_text(alice.id)
    assert session["username"] == alice.login
    assert session["primaryAccounts"] == dict.fromkeys(
        session["capabilities"].keys() - {CORE}, account
    )
    assert {CORE, MAIL, BLOB, QUOTA} <= session["capabilities"].keys()
    assert session["capabilities"][CORE]["maxSizeRequest"] == 20_000
    mail_capability = session["accounts"][account]["accountCapabilities"][MAIL]
    assert "receivedAt" in mail_capability["emailQuerySortOptions"]
    assert {"maxMailboxDepth", "maxSizeMailboxName"} <= mail_capability.keys()


@pytest.mark.parametrize(
    "headers",
    [{}, {"Authorization": "Basic"}, {"Authorization": "Basic !!"}, {"Authorization": "Bearer x"},
     {"Authorization": "Basic " + "QQ" * 5000},
     {"Authorization": "Basic " + base64.b64encode(b"alice@example.test:wrong").decode()}],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/.well-known/jmap", "/jmap/events", "/jmap/download/a/b/c"])
async def test_needs_credentials(
    site: Site, alice: Account, headers: dict[str, str], path: str
) -> None:
    status, answered, body = await site.get(path, login=None, headers=headers)
    assert status == 401
    assert answered["www-authenticate"].startswith("Basic")
    assert answered["access-control-allow-origin"] == "*"
    assert json.loads(body)["status"] == 401


async def test_preflight_needs_no_credentials(site: Site) -> None:
    paths = ("/.well-known/jmap", "/jmap/api", "/jmap/upload/a", "/jmap/download/a/b/c")
    for path in (*paths, "/jmap/events"):
        status, headers, _ = await asyncio.to_thread(site.ask, "OPTIONS", path, login=None)
        assert status == 204
        assert "Authorization" in headers["access-control-allow-headers"]


async def test_list_with_curl(site: Site, alice: Account, letter: Accepted) -> None:
    account = account_text(alice.id)
    ids = {"resultOf": "0", "name": "Email/query", "path": "/ids"}
    request = {
        "using": [CORE, MAIL],
        "methodCalls": [
            ["Email/query", {"accountId": account, "limit": 50}, "0"],
            ["Email/get", {"accountId": account, "#ids": ids, "properties": ["subject"]}, "1"],
        ],
    }
    process = await asyncio.create_subprocess_exec(
        "curl", "-sS", "--fail", "-u", f"{alice.login}:{PASSWORD}",
        "-H", "Content-Type: application/json", "-d", json.dumps(request),
        f"http://{site.host}:{site.port}/jmap/api",
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    output, _ = await process.communicate()
    assert process.returncode == 0
    listed = json.loads(output)["methodResponses"][1][1]["list"]
    (delivered,) = letter.delivered
    assert listed == [{"id": email_text(delivered.email_id), "subject": "With a file"}]


async def test_downloads(site: Site, alice: Account, bob: Account, letter: Accepted) -> None:
    account = account_text(alice.id)
    (delivered,) = letter.delivered
    asked = {
        "accountId": account,
        "ids": [email_text(delivered.email_id)],
        "properties": ["blobId", "attachments"],
    }
    ((_, answer, _),) = await site.call(["Email/get", asked, "0"])
    (email,) = answer["list"]
    status, headers, body = await site.get(
        f"/jmap/download/{account}/{email['blobId']}/letter.eml?accept=message/rfc822"
    )
    assert (status, body) == (200, RAW)
    assert headers["content-type"] == "message/rfc822"
    assert headers["content-disposition"].startswith('attachment; filename="letter.eml"')
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-security-policy"].startswith("sandbox")
    assert "private" in headers["cache-control"]
    assert "immutable" in headers["cache-control"]
    (file,) = email["attachments"]
    path = f"/jmap/download/{account}/{file['blobId']}/%C3%BC%22%09x?accept=text/html%0d%0aX:y"
    status, headers, body = await site.get(path)
    assert (status, hashlib.sha256(body).digest()) == (200, hashlib.sha256(ATTACHMENT).digest())
    assert len(body) == file["size"]
    assert headers["content-type"] == "application/octet-stream"
    assert "%C3%BC" in headers["content-disposition"]

    whole, _, place = file["blobId"].partition("-")
    outside = f"{whole}-n{len(RAW) - 1}-2"
    for wrong in (outside, "x", "b" + "0" * 64, f"{whole}-n-1-5", f"{whole}-{place}-1"):
        status, _, _ = await site.get(f"/jmap/download/{account}/{wrong}/x")
        assert status == 404
    # neither by the owner's account nor by one's own
    for owner in (account, account_text(bob.id)):
        path = f"/jmap/download/{owner}/{email['blobId']}/x"
        status, _, _ = await site.get(path, login=bob.login)
        assert status == 404


async def test_limits_of_requests(site: Site, alice: Account) -> None:
    def post(body: bytes, headers: dict[str, str]) -> tuple[int, Any]:
        status, _, answer = site.ask("POST", "/jmap/api", body, headers=headers)
        return status, json.loads(answer)

    status, problem = await asyncio.to_thread(post, b" " * 20_001, {})
    assert (status, problem["limit"]) == (413, "maxSizeRequest")
    assert problem["type"] == "urn:ietf:params:jmap:error:limit"
    status, problem = await asyncio.to_thread(post, b"{}", {"Content-Type": "text/plain"})
    assert (status, problem["type"]) == (400, "urn:ietf:params:jmap:error:notJSON")
    status, _, _ = await asyncio.to_thread(site.ask, "DELETE", "/jmap/api")
    assert status == 405


async def test_an_upload_is_there_at_once(
    site: Site, mail: Mail, alice: Account, bob: Account
) -> None:
    account = account_text(alice.id)
    for content in (ATTACHMENT, b"", ATTACHMENT):
        status, headers, body = await asyncio.to_thread(
            site.ask, "POST", f"/jmap/upload/{account}/", content, headers={"Content-Type": "a/b"}
        )
        answer = json.loads(body)
        assert status == 201
        assert headers["access-control-allow-origin"] == "*"
        blob = "b" + hashlib.sha256(content).hexdigest()
        assert answer == {
            "accountId": account, "blobId": blob, "type": "a/b", "size": len(content),
        }  # fmt: skip
        assert (await site.get(f"/jmap/download/{account}/{blob}/x"))[::2] == (200, content)
        status, _, _ = await site.get(
            f"/jmap/download/{account_text(bob.id)}/{blob}/x", login=bob.login
        )
        assert status == 404
    status, _, _ = await asyncio.to_thread(
        site.ask, "POST", f"/jmap/upload/{account}", b"x", login=bob.login
    )
    assert status == 404


async def test_uploads_are_limited(site: Site, mail: Mail, alice: Account) -> None:
    account = account_text(alice.id)

    def upload(content: bytes) -> tuple[int, Any]:
        status, _, body = site.ask("POST", f"/jmap/upload/{account}", content)
        return status, json.loads(body)

    status, problem = await asyncio.to_thread(upload, b"x" * 30_001)
    assert (status, problem["limit"]) == (413, "maxSizeUpload")
    await accounts.set_quota(mail.database, alice.id, 1500)
    assert (await asyncio.to_thread(upload, b"x" * 1000))[0] == 201
    assert (await asyncio.to_thread(upload, b"y" * 1000))[0] == 507
    assert (await asyncio.to_thread(upload, b"x" * 1000))[0] == 201  # it is there


async def test_uploads_of_all_together_have_a_bound(site: Site, alice: Account) -> None:
    account = account_text(alice.id)
    uploads = Uploads(mail=site.app._mail, limits=site.app._api.limits, memory=1)
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    began, go_on = asyncio.Event(), asyncio.Event()

    async def stalled() -> Message:
        began.set()
        await go_on.wait()
        return {"type": "http.request", "body": b"slow"}

    async def at_once() -> Message:
        return {"type": "http.request", "body": b"fast"}

    slow = asyncio.create_task(uploads.take(alice.id, alice.id, {}, stalled, send))
    await asyncio.wait_for(began.wait(), 30)
    with pytest.raises(RequestError) as refused:
        await uploads.take(alice.id, alice.id, {}, at_once, send)
    assert refused.value.status == 503
    go_on.set()
    await slow
    await uploads.take(alice.id, alice.id, {}, at_once, send)
    answers = [json.loads(each["body"]) for each in sent[1::2]]
    assert [each["accountId"] for each in answers] == [account, account]


async def test_a_body_without_length_is_limited_too(site: Site, alice: Account) -> None:
    reader, writer = await asyncio.open_connection(site.host, site.port)
    pair = base64.b64encode(f"{alice.login}:{PASSWORD}".encode()).decode()
    writer.write(
        f"POST /jmap/api HTTP/1.1\r\nHost: x\r\nAuthorization: Basic {pair}\r\n"
        "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    )
    for _ in range(30):
        writer.write(b"400\r\n" + b" " * 1024 + b"\r\n")
    status = await asyncio.wait_for(reader.readline(), 30)
    assert status.split()[1] == b"413"
    writer.close()


async def test_web_face(site: Site) -> None:
    assert (await site.get("/healthz", login=None))[::2] == (200, b"ok\n")
    status, _, body = await site.get("/readyz", login=None)
    assert (status, json.loads(body)) == (200, {"ready": True, "problems": []})
    site.problems.append("the database cannot be reached")
    status, _, body = await site.get("/readyz", login=None)
    assert (status, json.loads(body)["problems"]) == (503, ["the database cannot be reached"])
    status, headers, body = await site.get("/metrics", login=None)
    assert status == 200
    assert headers["content-type"].startswith("text/plain")
    assert b"messages_received_total" in body
    status, _, body = await site.get("/", login=None, headers={"Host": "<script>"})
    assert status in (200, 400)
    assert b"<script>" not in body
    assert (await site.get("/nothing", login=None))[0] == 404


async def test_event_source(site: Site, mail: Mail, alice: Account) -> None:
    reader, writer = await asyncio.open_connection(site.host, site.port)
    pair = base64.b64encode(f"{alice.login}:{PASSWORD}".encode()).decode()

    def ask(variables: str, more: str = "") -> None:
        writer.write(
            f"GET /jmap/events?{variables} HTTP/1.1\r\nHost: x\r\n"
            f"Authorization: Basic {pair}\r\n{more}\r\n".encode()
        )

    ask("types=Email,Thread&closeafter=no&ping=0")
    head = await asyncio.wait_for(reader.readuntil(b": \n\n"), 30)
    assert b"200" in head.split(b"\r\n", 1)[0]
    assert b"text/event-stream" in head
    accepted = await delivery.accept(mail, RAW, [Target(alice.id)], received_at=NOW)
    event = await asyncio.wait_for(reader.readuntil(b"}\n\n"), 30)
    (delivered,) = accepted.delivered
    lines = event.split(b"\r\n", 1)[-1].decode().splitlines()
    state = str(delivered.modseq)
    assert "event: state" in lines
    assert f"id: {account_text(alice.id)}={state}" in lines
    data = json.loads(next(line for line in lines if line.startswith("data: "))[6:])
    assert data == {
        "@type": "StateChange",
        "changed": {account_text(alice.id): {"Email": state, "Thread": state}},
    }
    site.app.drain()
    await asyncio.wait_for(reader.readuntil(b"0\r\n\r\n"), 30)
    writer.close()


async def test_event_source_tells_what_was_missed(
    site: Site, alice: Account, letter: Accepted
) -> None:
    own = account_text(alice.id)
    before = letter.delivered[0].modseq - 1
    for place, types in ((f"{own}={before}", {"Email", "Mailbox"}), ("1", {"Email", "Identity"})):
        status, _, body = await site.get(
            "/jmap/events?types=Email,Mailbox,Identity&closeafter=state&ping=30",
            headers={"Last-Event-ID": place},
        )
        assert status == 200
        assert body.count(b"event: state") == 1
        told = json.loads(body.partition(b"data: ")[2])["changed"][own]
        assert types <= told.keys()
        assert ("Identity" in told) == (place == "1")
    for wrong in ("types=*&closeafter=no", "types=*&closeafter=x&ping=1", "closeafter=no&ping=1"):
        assert (await site.get(f"/jmap/events?{wrong}"))[0] == 400


async def test_a_change_too_large_to_read_is_not_asked_for_forever(
    site: Site, mail: Mail, alice: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    account, state = account_text(alice.id), str(alice.modseq)
    await delivery.accept(mail, RAW, [Target(alice.id)], received_at=NOW)
    monkeypatch.setattr(changes, "ENTRIES", 1)
    asked = {"accountId": account, "sinceState": state}
    ((name, answer, _),) = await site.call(["Email/changes", asked, "0"])
    assert (name, answer["type"]) == ("error", "cannotCalculateChanges")


async def test_without_a_database_the_answer_is_later(
    site: Site, mail: Mail, alice: Account
) -> None:
    account, real = account_text(alice.id), mail.database
    session_path = "/.well-known/jmap"
    assert (await site.get(session_path))[0] == 200
    mail.database = Database(lambda: "postgresql://nobody@127.0.0.1:1/none", size=1)
    ((name, answer, _),) = await site.call(["Email/query", {"accountId": account}, "0"])
    assert (name, answer) == ("error", {"type": "serverUnavailable"})
    path = f"/jmap/download/{account}/b{'0' * 64}/x"
    status, headers, body = await site.get(path)
    assert (status, json.loads(body)["status"]) == (503, 503)
    assert headers["content-type"] == "application/problem+json"
    assert "retry-after" in headers
    mail.database = real
    ((name, _, _),) = await site.call(["Email/query", {"accountId": account}, "0"])
    assert name == "Email/query"


async def test_a_fault_tells_the_peer_nothing(site: Site, mail: Mail, alice: Account) -> None:
    account = account_text(alice.id)
    await mail.database.execute("ALTER TABLE msg RENAME TO msg_away")
    ((name, answer, _),) = await site.call(["Email/query", {"accountId": account}, "0"])
    assert (name, answer) == ("error", {"type": "serverFail"})  # no text of the failure
    await mail.database.execute("ALTER TABLE msg_away RENAME TO msg")
    ((name, _, _),) = await site.call(["Email/query", {"accountId": account}, "0"])
    assert name == "Email/query"


async def test_the_session_shows_the_accounts_that_others_share(
    site: Site, mail: Mail, alice: Account, bob: Account
) -> None:
    async def session() -> Any:
        _, _, body = await site.get("/.well-known/jmap", login=bob.login)
        found = json.loads(body)
        echo = json.dumps({"using": [CORE], "methodCalls": []}).encode()
        _, _, answer = await asyncio.to_thread(site.ask, "POST", "/jmap/api", echo, login=bob.login)
        assert json.loads(answer)["sessionState"] == found["state"]
        return found

    async def share(identifier: rights.Identifier, given: Right) -> Any:
        await rights.modify(mail, alice.id, inbox.id, identifier, RightsChange.REPLACE, given)
        found = await session()
        assert found["state"] not in states
        states.append(found["state"])
        return found["accounts"].get(account_text(alice.id))

    inbox = await mailboxes.by_path(mail, alice.id, "INBOX")
    own = account_text(bob.id)
    before = await session()
    assert list(before["accounts"]) == [own]
    states = [before["state"]]
    for identifier in (rights.Identifier(bob.id, False), rights.Identifier(None, False)):
        seen = await share(identifier, Right.LOOKUP | Right.READ)
        assert (seen["name"], seen["isPersonal"], seen["isReadOnly"]) == (alice.login, False, True)
        assert seen["accountCapabilities"][MAIL]["mayCreateTopLevelMailbox"] is False
        seen = await share(identifier, Right.LOOKUP | Right.SEEN)
        assert seen["isReadOnly"] is False
        states.remove(before["state"])
        assert await share(identifier, Right.READ) is None
        states = [before["state"]]
    assert set((await session())["primaryAccounts"].values()) == {own}


async def test_a_client_that_says_too_little_may_be_understood(
    site: Site, mail: Mail, alice: Account
) -> None:
    call = ["Quota/get", {"accountId": account_text(alice.id), "ids": None}, "0"]
    (answer,) = await site.call(call, using=[CORE, MAIL])
    assert answer[1]["type"] == "unknownMethod"
    http = mail.config.http.model_copy(update={"lenient_using": True})
    mail.config = mail.config.model_copy(update={"http": http})
    (answer,) = await site.call(call, using=[MAIL])
    assert answer[0] == "Quota/get"
    (answer,) = await site.call(call, using=[CORE])
    assert answer[1]["type"] == "unknownMethod"


async def test_the_session_is_sent_again_only_when_it_changed(site: Site, alice: Account) -> None:
    _, headers, _ = await site.get("/.well-known/jmap")
    known = {"If-None-Match": headers["etag"]}
    status, headers, body = await site.get("/.well-known/jmap", headers=known)
    assert (status, body, headers["etag"]) == (304, b"", known["If-None-Match"])


@pytest.mark.parametrize("path", ["upload", "api"])
async def test_two_gigabytes_are_refused_before_they_come(
    site: Site, alice: Account, path: str
) -> None:
    if path == "upload":
        path += "/" + account_text(alice.id)
    reader, writer = await asyncio.open_connection(site.host, site.port)
    pair = base64.b64encode(f"{alice.login}:{PASSWORD}".encode()).decode()
    writer.write(
        f"POST /jmap/{path} HTTP/1.1\r\nHost: x\r\nAuthorization: Basic {pair}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {2 << 30}\r\n\r\n".encode()
    )
    status = await asyncio.wait_for(reader.readline(), 30)
    assert status.split()[1] == b"413"
    writer.close()


async def test_ten_thousand_calls_are_refused(site: Site, alice: Account) -> None:
    calls = ",".join(['["Core/echo",{},"0"]'] * 10_000)
    body = f'{{"using":["{CORE}"],"methodCalls":[{calls}]}}'.encode()
    config = site.app._mail.config
    http = config.http.model_copy(update={"max_request_size": 10_000_000})
    site.app._api.limits = Limits.of(config.model_copy(update={"http": http}))
    status, _, answer = await asyncio.to_thread(site.ask, "POST", "/jmap/api", body)
    assert (status, json.loads(answer)["limit"]) == (400, "maxCallsInRequest")


async def test_a_request_that_outlasts_a_stop_is_no_error(
    site: Site, database: Database, alice: Account, caplog: pytest.LogCaptureFixture
) -> None:
    change = ["Mailbox/set", {"accountId": account_text(alice.id), "create": {"n": {"name": "x"}}}]
    body = json.dumps({"using": [CORE, MAIL], "methodCalls": [[*change, "0"]]}).encode()
    async with database.transaction() as other:
        await other.execute("SELECT FROM account WHERE id = $1 FOR UPDATE", alice.id)
        asked = asyncio.create_task(asyncio.to_thread(site.ask, "POST", "/jmap/api", body))
        waiting = """
            SELECT count(*) FROM pg_stat_activity
            WHERE wait_event_type = 'Lock' AND datname = current_database()
            """
        async with asyncio.timeout(30):
            while not await database.fetchval(waiting):
                await asyncio.sleep(0.01)
        await site.server.stop(0)
        with pytest.raises(RemoteDisconnected):
            await asyncio.shield(asked)
        async with asyncio.timeout(30):
            while "request ended by a stop" not in caplog.messages:
                await asyncio.sleep(0.01)
    assert "Exception in ASGI application" not in caplog.text
