"""Blob methods: data in and out, where blobs are used, and those of others (RFC 9404)."""

import asyncio
import base64
import hashlib
import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from mailserver.jmap import methods
from mailserver.jmap.protocol.ids import account_text, blob_text, email_text, mailbox_text
from mailserver.jmap.protocol.request import parse_request
from mailserver.jmap.session import Limits, Session
from mailserver.mail import delivery, mailboxes, rights
from mailserver.mail.context import Mail
from mailserver.mail.delivery import Target
from mailserver.model import Account, Principal, RightsChange
from mailserver.storage import accounts
from mailserver.storage.database import Database
from tests.integration.jmap.conftest import BLOB, CORE, MAIL, QUOTA, Site

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
RAW = b"From: Carol <carol@example.org>\r\nSubject: Hello\r\n\r\nHow are you?\r\n"
USING = [CORE, MAIL, BLOB]


class Reading:
    """A database that counts how often bodies are read."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.count = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.database, name)

    async def fetch(self, query: str, *arguments: Any) -> Any:
        self.count += "FROM blob_hot" in query
        return await self.database.fetch(query, *arguments)


@pytest.fixture
def blob(site: Site, alice: Account) -> Any:
    async def call(method: str, login: str = alice.login, **arguments: Any) -> Any:
        arguments.setdefault("accountId", account_text(alice.id))
        (answer,) = await site.call([f"Blob/{method}", arguments, "0"], using=USING, login=login)
        return answer[1]

    return call


async def test_upload_joins_sources_and_get_returns_ranges(blob: Any) -> None:
    answer = await blob(
        "upload",
        create={
            "whole": {
                "data": [{"data:asText": "How"}, {"blobId": "#fox", "offset": 3, "length": 7},
                         {"data:asBase64": base64.b64encode(b"f\xc3\xb6x\xff").decode()}],
                "type": "image/x-fox",
            },
            "fox": {"data": [{"data:asText": "The quick brown fox"}], "type": None},
            "none": {"data": []},
        },
    )  # fmt: skip
    assert answer["notCreated"] is None
    whole = b"How quick f\xc3\xb6x\xff"
    made = answer["created"]
    assert made["whole"] == {
        "id": blob_text(hashlib.sha256(whole).digest()), "type": "image/x-fox", "size": len(whole)
    }  # fmt: skip
    assert made["fox"]["type"] == "application/octet-stream"
    assert made["none"]["size"] == 0

    ids = [made["whole"]["id"], "bnothing"]
    (found,) = (answer := await blob("get", ids=ids))["list"]
    assert answer["notFound"] == ["bnothing"]
    assert found == {
        "id": ids[0], "size": len(whole), "isEncodingProblem": True,
        "data:asBase64": base64.b64encode(whole).decode(),
    }  # fmt: skip

    properties = ["data:asText", "digest:sha", "digest:sha-256"]
    answer = await blob("get", ids=ids[:1], properties=properties, offset=4, length=5)
    sha = base64.b64encode(hashlib.sha1(b"quick").digest()).decode()
    assert answer["list"] == [
        {"id": ids[0], "data:asText": "quick", "digest:sha": sha,
         "digest:sha-256": base64.b64encode(hashlib.sha256(b"quick").digest()).decode()}
    ]  # fmt: skip
    # a character cut in two is no text
    answer = await blob("get", ids=ids[:1], properties=["data:asText"], offset=12)
    assert answer["list"] == [{"id": ids[0], "data:asText": None, "isEncodingProblem": True}]
    answer = await blob("get", ids=ids[:1], properties=["data"], offset=11, length=2000)
    assert answer["list"][0]["isTruncated"] is True


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ({"data:asText": 1}, "invalidProperties"),
        ({"data:asBase64": "***"}, "invalidProperties"),
        ({"data:asText": "a", "data:asBase64": ""}, "invalidProperties"),
        ({}, "invalidProperties"),
        ({"blobId": "bnothing"}, "blobNotFound"),
        ({"blobId": "#self"}, "blobNotFound"),
        ({"blobId": "#fox", "offset": -1}, "invalidProperties"),
        ({"blobId": "#fox", "offset": 2, "length": 2}, "invalidProperties"),
        ({"data:asText": "x" * 18_000}, None),
    ],
)
async def test_bad_sources(blob: Any, source: Any, kind: str | None) -> None:
    create = {"self": {"data": [source]}, "fox": {"data": [{"data:asText": "fox"}]}}
    answer = await blob("upload", create=create)
    assert "fox" in answer["created"]
    if kind is None:
        assert "self" in answer["created"]
    else:
        assert answer["notCreated"]["self"]["type"] == kind
    ring = {"a": {"data": [{"blobId": "#b"}]}, "b": {"data": [{"blobId": "#a"}]}}
    answer = await blob("upload", create=ring)
    assert {each["type"] for each in answer["notCreated"].values()} == {"blobNotFound"}
    large = {"large": {"data": [{"blobId": "#fox"}] * 129}}
    assert (await blob("upload", create=large))["notCreated"]["large"]["type"] == "tooLarge"


async def test_lookup_and_arguments(blob: Any, mail: Mail, alice: Account) -> None:
    (one,) = (await delivery.accept(mail, RAW, [Target(alice.id)], received_at=NOW)).delivered
    blob_id, unused = (
        blob_text(one.blob_id),
        await blob("upload", create={"a": {"data": [{"data:asText": "unused"}]}}),
    )
    unused = unused["created"]["a"]["id"]
    ids = [blob_id, blob_id + "-n3-5", unused, blob_id + "-n3-5000", "b0"]
    answer = await blob("lookup", typeNames=["Email"], ids=ids)
    matched = {"Email": [email_text(one.email_id)]}
    assert answer["list"] == [
        {"id": ids[0], "matchedIds": matched},
        {"id": ids[1], "matchedIds": matched},
        {"id": unused, "matchedIds": {"Email": []}},
    ]
    assert answer["notFound"] == ids[3:]
    answer = await blob("lookup", typeNames=["Thread", "Mailbox"], ids=ids[:1])
    assert {name: len(found) for name, found in answer["list"][0]["matchedIds"].items()} == {
        "Thread": 1, "Mailbox": 1,
    }  # fmt: skip
    assert (await blob("lookup", typeNames=["Pigeon"], ids=[]))["type"] == "unknownDataType"
    assert (await blob("get", ids=None))["type"] == "requestTooLarge"
    assert (await blob("get", ids=[], properties=["digest:crc"]))["type"] == "invalidArguments"
    answer = await blob("copy", fromAccountId=account_text(alice.id), blobIds=[])
    assert answer["type"] == "invalidArguments"


async def test_blobs_of_others(
    blob: Any, site: Site, mail: Mail, alice: Account, bob: Account
) -> None:
    """Bob may read one mailbox of alice's and add to it: what else is there is not for him."""
    (private,) = await mailboxes.create(mail, alice.id, "Private")
    inbox = await mailboxes.by_path(mail, alice.id, "INBOX")
    (seen,) = (await delivery.accept(mail, RAW, [Target(alice.id)], received_at=NOW)).delivered
    (hidden,) = (
        await delivery.accept(mail, RAW + b"x", [Target(alice.id, private.id)], received_at=NOW)
    ).delivered
    theirs, own = account_text(alice.id), account_text(bob.id)
    secret = await blob("upload", create={"a": {"data": [{"data:asText": "secret"}]}})
    ids = [blob_text(seen.blob_id), blob_text(hidden.blob_id), secret["created"]["a"]["id"]]

    async def download(blob_id: str, **options: Any) -> int:
        path = f"/jmap/download/{theirs}/{blob_id}/x"
        return (await site.get(path, login=bob.login, **options))[0]

    async def put() -> tuple[int, Any]:
        status, _, body = await asyncio.to_thread(
            site.ask, "POST", f"/jmap/upload/{theirs}", b"of bob", login=bob.login
        )
        return status, json.loads(body)

    give = rights.Identifier(bob.id, False)
    assert (await blob("get", bob.login, ids=ids))["type"] == "accountNotFound"
    assert [await download(each) for each in ids] == [404, 404, 404]
    assert (await put())[0] == 404
    copy = {"fromAccountId": theirs, "accountId": own, "blobIds": ids}
    assert (await blob("copy", bob.login, **copy))["type"] == "fromAccountNotFound"

    await rights.modify(mail, alice.id, inbox.id, give, RightsChange.REPLACE, rights.parse("lr"))
    answer = await blob("get", bob.login, ids=ids, properties=["size"])
    assert answer["list"] == [{"id": ids[0], "size": len(RAW)}]
    assert answer["notFound"] == ids[1:]
    answer = await blob("lookup", bob.login, ids=ids, typeNames=["Email"])
    assert [each["id"] for each in answer["list"]] == ids[:1]
    assert [await download(each) for each in ids] == [200, 404, 404]
    assert (await put())[0] == 403
    assert (await blob("upload", bob.login, create={}))["type"] == "accountReadOnly"
    back = {"fromAccountId": own, "accountId": theirs, "blobIds": []}
    assert (await blob("copy", bob.login, **back))["type"] == "accountReadOnly"

    answer = await blob("copy", bob.login, **copy)
    assert answer["copied"] == {ids[0]: ids[0]}
    assert {each["type"] for each in answer["notCopied"].values()} == {"blobNotFound"}
    assert (await blob("get", bob.login, accountId=own, ids=ids[:1]))["notFound"] == []

    await rights.modify(mail, alice.id, inbox.id, give, RightsChange.REPLACE, rights.parse("lri"))
    status, made = await put()
    assert (status, made["accountId"]) == (201, theirs)
    assert await download(made["blobId"]) == 200
    # that alice has uploaded the same is not told; who uploads it sees it
    assert await download(ids[2]) == 404


async def test_download_is_conditional_and_in_ranges(
    site: Site, mail: Mail, alice: Account
) -> None:
    (one,) = (await delivery.accept(mail, RAW, [Target(alice.id)], received_at=NOW)).delivered
    path = f"/jmap/download/{account_text(alice.id)}/{blob_text(one.blob_id)}/x?accept=text/plain"
    status, headers, body = await site.get(path)
    assert (status, body, headers["accept-ranges"]) == (200, RAW, "bytes")
    tag = headers["etag"]
    for known in (tag, f'"x", W/{tag}', "*"):
        status, headers, body = await site.get(path, headers={"If-None-Match": known})
        assert (status, body, headers["etag"]) == (304, b"", tag)
    size = len(RAW)
    for asked, start, end in (
        ("0-3", 0, 4), ("-4", size - 4, size), ("10-", 10, size), ("5-9999", 5, size),
    ):  # fmt: skip
        status, headers, body = await site.get(path, headers={"Range": f"bytes={asked}"})
        assert (status, body) == (206, RAW[start:end])
        assert headers["content-range"] == f"bytes {start}-{end - 1}/{size}"
    status, headers, _ = await site.get(path, headers={"Range": f"bytes={size}-"})
    assert (status, headers["content-range"]) == (416, f"bytes */{size}")
    for ignored in ("lines=1-2", "bytes=a-b", "bytes=0-1,3-4", "bytes=4-1"):
        assert (await site.get(path, headers={"Range": ignored}))[::2] == (200, RAW)
    stale = {"Range": "bytes=0-3", "If-Range": '"other"'}
    assert (await site.get(path, headers=stale))[::2] == (200, RAW)


async def test_quota(site: Site, mail: Mail, alice: Account) -> None:
    async def call(method: str, using: Any = (CORE, MAIL, QUOTA), **arguments: Any) -> Any:
        arguments["accountId"] = account_text(alice.id)
        (answer,) = await site.call([f"Quota/{method}", arguments, "0"], using=list(using))
        return answer[1]

    answer = await call("get", ids=None)
    assert answer["list"] == []
    none = answer["state"]
    await accounts.set_quota(mail.database, alice.id, 1000)
    answer = await call("changes", sinceState=none)
    assert (answer["created"], answer["updatedProperties"]) == (["storage"], None)
    empty = answer["newState"]
    await delivery.accept(mail, RAW, [Target(alice.id)], received_at=NOW)
    answer = await call("changes", sinceState=empty)
    assert (answer["updated"], answer["updatedProperties"]) == (["storage"], ["used"])
    answer = await call("get", ids=["storage", "x"], properties=["used", "hardLimit"])
    assert answer["list"] == [{"id": "storage", "used": len(RAW), "hardLimit": 1000}]
    assert answer["notFound"] == ["x"]
    assert (await call("changes", sinceState=answer["state"]))["updated"] == []
    assert (await call("changes", sinceState="7"))["type"] == "cannotCalculateChanges"
    # a client that knows no type of the quota is told of none
    assert (await call("get", using=[CORE, QUOTA], ids=None))["list"] == []
    for wanted, ids in (
        ({"type": "Email", "scope": "account"}, ["storage"]),
        ({"operator": "NOT", "conditions": [{"name": "STOR"}]}, []),
        ({"resourceType": "count"}, []),
    ):
        answer = await call("query", filter=wanted, sort=[{"property": "used"}])
        assert answer["ids"] == ids
    answer = await call("queryChanges", sinceQueryState=empty, calculateTotal=True)
    assert (answer["removed"], answer["added"], answer["total"]) == (
        ["storage"], [{"id": "storage", "index": 0}], 1,
    )  # fmt: skip
    assert (await call("query", filter={"used": 1}))["type"] == "unsupportedFilter"
    assert (await call("query", sort=[{"property": "id"}]))["type"] == "unsupportedSort"


async def test_a_message_is_read_once_for_all_its_parts(mail: Mail, alice: Account) -> None:
    raws = [RAW + b"%d" % number for number in range(4)]
    names = []
    for raw in raws:
        (one,) = (await delivery.accept(mail, raw, [Target(alice.id)], received_at=NOW)).delivered
        names.append(blob_text(one.blob_id))
    reading = Reading(mail.database)
    mail.database = cast("Database", reading)
    size = len(raws[0])
    account = account_text(alice.id)

    async def call(name: str, *, max_cut: int, **arguments: Any) -> Any:
        reading.count = 0
        session = Session(
            mail,
            Principal(alice.id, alice.login),
            replace(Limits.of(mail.config), max_cut=max_cut, max_kept=2 * size),
            "test",
        )
        calls = [[name, {"accountId": account, **arguments}, "0"]]
        body = json.dumps({"using": USING, "methodCalls": calls}).encode()
        (answer,) = await methods.answer(session, parse_request(body, max_calls=1))
        return list(answer)[1]

    parts = [f"{name}-n{start}-9" for start in range(9) for name in names[:2]]
    answer = await call("Blob/get", max_cut=2 * size, ids=parts, properties=["data:asText"])
    assert [each["data:asText"] for each in answer["list"]] == [
        raws[0][start : start + 9].decode() for start in range(9) for _ in names[:2]
    ]
    assert reading.count == 2
    answer = await call("Email/parse", max_cut=2 * size, blobIds=parts, properties=["subject"])
    assert len(answer["parsed"] or ()) + len(answer["notParsable"] or ()) == len(parts)
    assert reading.count == 2
    data = [{"blobId": name, "offset": 1, "length": 3} for name in names[:2] * 9]
    answer = await call("Blob/upload", max_cut=2 * size, create={"a": {"data": data}})
    assert answer["created"]["a"]["size"] == 54
    assert reading.count == 2
    # parts of more messages than may be read, or than are kept
    for ids, most in ((names[:3], 2 * size), (names[:3] * 2, 4 * size)):
        create = {"a": {"data": [{"blobId": each, "length": 1} for each in ids]}}
        answer = await call("Blob/upload", max_cut=most, create=create)
        assert answer["type"] == "requestTooLarge"
        assert reading.count == most // size
    answer = await call("Blob/get", max_cut=2 * size, ids=names, length=2)
    assert answer["type"] == "requestTooLarge"
    assert len((await call("Blob/get", max_cut=2 * size, ids=names))["list"]) == 4
    boxes = {mailbox_text((await mailboxes.by_path(mail, alice.id, "INBOX")).id): True}
    emails = {
        str(number): {"blobId": f"{name}-n0-{size}", "mailboxIds": boxes}
        for number, name in enumerate(names)
    }
    answer = await call("Email/import", max_cut=3 * size, emails=emails)
    assert list(answer["created"]) == ["0", "1", "2"]
    assert answer["notCreated"] == {"3": {"type": "rateLimit"}}
    mail.database = reading.database
