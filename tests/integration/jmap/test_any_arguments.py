"""Calls of every method, right ones and then spoiled ones: each gets an exact answer."""

import copy
import json
from random import Random
from typing import Any

import pytest

from mailserver.jmap import methods
from mailserver.jmap.methods import METHODS
from mailserver.jmap.protocol.errors import RequestError
from mailserver.jmap.protocol.ids import account_text, blob_text
from mailserver.jmap.protocol.request import Request, parse_request
from mailserver.jmap.session import Limits, Session
from mailserver.mail import rights, uploads
from mailserver.mail.context import Mail
from mailserver.model import Account, Principal, RightsChange

ROUNDS = 40
# RFC 8620 §3.6.2, §5, RFC 8621 §4, RFC 9404 §4.3
METHOD_ERRORS = {
    "accountNotFound", "accountNotSupportedByMethod", "accountReadOnly", "anchorNotFound",
    "cannotCalculateChanges", "fromAccountNotFound", "invalidArguments", "invalidResultReference",
    "requestTooLarge", "stateMismatch", "tooManyChanges", "unknownDataType", "unsupportedFilter",
    "unsupportedSort",
}  # fmt: skip
SET_ERRORS = {
    "alreadyExists", "blobNotFound", "cannotUnsend", "forbidden", "forbiddenFrom",
    "forbiddenMailFrom", "invalidEmail", "invalidPatch", "invalidProperties", "invalidRecipients",
    "mailboxHasChild", "mailboxHasEmail", "noRecipients", "notFound", "overQuota", "singleton",
    "tooLarge", "tooManyKeywords", "willDestroy",
}  # fmt: skip
DRAFT = b"From: alice@example.test\r\nTo: bob@example.test, c@example.org\r\n\r\nhello\r\n"
MESSAGE = b"From: a@example.org\r\nSubject: x\r\nMessage-ID: <1@x>\r\n\r\nhello world\r\n"


async def known(mail: Mail, alice: Account, bob: Account) -> dict[str, Any]:
    """Make something of every kind; return the names that calls are written with."""
    session = new_session(mail, alice)
    account = account_text(alice.id)
    blob = blob_text(await uploads.store(mail, alice.id, MESSAGE))
    draft = blob_text(await uploads.store(mail, alice.id, DRAFT))
    made = await run(
        session,
        ["Mailbox/set", {"accountId": account, "create": {"box": {"name": "Box"}}}, "0"],
        ["Email/import", {"accountId": account, "emails": {
            "e": {"blobId": blob, "mailboxIds": {"#box": True}},
            "d": {"blobId": draft, "mailboxIds": {"#box": True}}}}, "1"],
        ["Identity/set", {"accountId": account, "create": {
            "i": {"email": alice.login}}}, "2"],
        ["EmailSubmission/set", {"accountId": account, "create": {
            "s": {"identityId": "#i", "emailId": "#d"}}}, "3"],
    )  # fmt: skip
    box = made[0][1]["created"]["box"]["id"]
    email = made[1][1]["created"]["e"]
    mailboxes = await run(
        new_session(mail, bob),
        ["Mailbox/query", {"accountId": account_text(bob.id), "filter": {"role": "inbox"}}, "0"],
    )
    return {
        "account": account, "blob": blob, "box": box, "email": email["id"],
        "thread": email["threadId"], "state": made[1][1]["newState"],
        "draft": made[1][1]["created"]["d"]["id"],
        "identity": made[2][1]["created"]["i"]["id"],
        "submission": made[3][1]["created"]["s"]["id"],
        "bob": account_text(bob.id), "bobs": mailboxes[0][1]["ids"][0],
    }  # fmt: skip


def new_session(mail: Mail, account: Account) -> Session:
    principal = Principal(account.id, account.login)
    return Session(mail, principal, Limits.of(mail.config), "test")


async def run(session: Session, *calls: list[Any]) -> list[Any]:
    body = json.dumps({"using": list(methods.CAPABILITIES), "methodCalls": calls}).encode()
    request: Request = parse_request(body, max_calls=100)
    return [list(each) for each in await methods.answer(session, request)]


def right_calls(name: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Return arguments of every method that are taken."""
    email = {
        "mailboxIds": {name["box"]: True}, "keywords": {"$draft": True}, "subject": "x",
        "from": [{"name": "A", "email": "a@example.org"}], "sentAt": "2026-01-01T00:00:00Z",
        "header:X-A:asText": "y", "header:List-Post:asURLs": ["mailto:a@b"],
        "textBody": [{"partId": "t", "type": "text/plain"}],
        "attachments": [{"blobId": name["blob"], "type": "application/pdf", "name": "n"}],
        "bodyValues": {"t": {"value": "text", "isTruncated": False}},
    }  # fmt: skip
    tree = {
        "mailboxIds": {name["box"]: True},
        "bodyStructure": {"type": "multipart/mixed", "subParts": [
            {"partId": "t", "cid": "a@b", "language": ["de"], "disposition": "inline"}]},
        "bodyValues": {"t": {"value": "text"}},
    }  # fmt: skip
    narrow = {"operator": "AND", "conditions": [{"inMailbox": name["box"]}, {"text": "hello"}]}
    order = [{"property": "receivedAt", "isAscending": False}, {"property": "subject"}]
    query = {"filter": narrow, "sort": order, "position": 0, "limit": 5, "calculateTotal": True}
    since = {"sinceState": name["state"], "maxChanges": 5}
    changes = {"sinceQueryState": name["state"], "filter": narrow, "sort": order}
    shown = {"bodyProperties": ["type", "partId"], "fetchAllBodyValues": True}
    calls: dict[str, list[dict[str, Any]]] = {
        "Mailbox/get": [{"ids": [name["box"]], "properties": ["name", "myRights"]}],
        "Mailbox/changes": [since],
        "Mailbox/query": [{"filter": {"name": "Box"}, "sort": [{"property": "name"}]}],
        "Mailbox/queryChanges": [{"sinceQueryState": name["state"]}],
        "Mailbox/set": [
            {"create": {"a": {"name": "A", "parentId": name["box"], "sortOrder": 3},
                        "b": {"name": "B", "parentId": "#a"}}},
            {"update": {name["box"]: {"name": "Box", "isSubscribed": False, "role": None}}},
            {"destroy": [name["box"]], "onDestroyRemoveEmails": False},
        ],
        "Thread/get": [{"ids": [name["thread"]]}],
        "Thread/changes": [since],
        "Email/get": [{"ids": [name["email"]], "properties": ["id", "bodyValues", "textBody",
                       "header:From:asAddresses"], **shown, "maxBodyValueBytes": 10}],
        "Email/changes": [since],
        "Email/query": [query | {"collapseThreads": True}, {"anchor": name["email"]}],
        "Email/queryChanges": [changes | {"collapseThreads": True, "upToId": name["email"]}],
        "Email/set": [
            {"create": {"a": email, "b": tree}},
            {"update": {name["email"]: {"keywords/a": True, "keywords/$seen": None,
                                        f"mailboxIds/{name['box']}": True}}},
            {"update": {name["email"]: {"keywords": {"b": True}, "size": 1}}},
            {"destroy": ["none"], "ifInState": None},
        ],
        "Email/import": [{"emails": {"a": {"blobId": name["blob"], "keywords": {"a": True},
                          "mailboxIds": {name["box"]: True},
                          "receivedAt": "2026-01-01T00:00:00Z"}}}],
        "Email/copy": [{"fromAccountId": name["bob"], "create": {
            "a": {"id": name["email"], "mailboxIds": {name["box"]: True}}}},
            {"fromAccountId": name["account"], "accountId": name["bob"], "create": {
                "a": {"id": name["email"], "mailboxIds": {name["bobs"]: True}}}}],
        "Email/parse": [{"blobIds": [name["blob"]], "properties": ["subject", "bodyValues"],
                         **shown}],
        "SearchSnippet/get": [{"filter": narrow, "emailIds": [name["email"]]}],
        **sending_calls(name),
    }  # fmt: skip
    return {
        method: [{"accountId": name["account"], **each} for each in arguments]
        for method, arguments in calls.items()
    }


def sending_calls(name: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    since = {"sinceState": name["state"], "maxChanges": 5}
    query = {
        "filter": {"operator": "OR", "conditions": [
            {"identityIds": [name["identity"]], "undoStatus": "final"},
            {"before": "2030-01-01T00:00:00Z", "threadIds": [name["thread"]]},
        ]},
        "sort": [{"property": "sentAt", "isAscending": False}, {"property": "emailId"}],
    }  # fmt: skip
    addresses = [{"name": "A", "email": "a@example.org"}, {"email": "b@example.org"}]
    envelope = {
        "mailFrom": {
            "email": "alice@example.test",
            "parameters": {"HOLDFOR": "60", "RET": "HDRS", "SMTPUTF8": None},
        },
        "rcptTo": [
            {"email": "bob@example.test", "parameters": None},
            {"email": "c@example.org", "parameters": {"NOTIFY": "SUCCESS,DELAY"}},
        ],
    }
    send = {"identityId": name["identity"], "emailId": name["draft"]}
    return {
        "Identity/get": [{"ids": [name["identity"]], "properties": ["email"]}],
        "Identity/changes": [since],
        "Identity/set": [
            {"create": {"a": {"email": "alice+x@example.test", "replyTo": addresses}}},
            {"update": {name["identity"]: {"name": "A", "bcc": addresses, "htmlSignature": "x"}}},
            {"destroy": ["none"], "ifInState": None},
        ],
        "EmailSubmission/get": [{"ids": [name["submission"]]}, {"ids": None}],
        "EmailSubmission/changes": [since],
        "EmailSubmission/query": [query | {"limit": 2}, {"anchor": name["submission"]}],
        "EmailSubmission/queryChanges": [query | {"sinceQueryState": name["state"]}],
        "EmailSubmission/set": [
            {"create": {"a": send}, "onSuccessUpdateEmail": {"#a": {"keywords/a": True}}},
            {"create": {"a": send | {"envelope": envelope}}, "onSuccessDestroyEmail": ["#b"]},
            {"update": {name["submission"]: {"undoStatus": "canceled"}}},
            {"destroy": ["none"]},
        ],
        "VacationResponse/get": [{"ids": ["singleton"], "properties": ["subject"]}],
        "VacationResponse/set": [
            {"update": {"singleton": {
                "isEnabled": True, "fromDate": "2026-01-01T00:00:00Z", "toDate": None,
                "subject": "Away", "textBody": "x", "htmlBody": "<p>x"}}},
        ],
    }  # fmt: skip


def spoiled(random: Random, value: Any, odd: list[Any], depth: int = 0) -> Any:
    """Return a value with one thing in it replaced, removed or renamed, deep inside mostly."""
    shallow = 0.03 if depth == 0 else 0.15
    if isinstance(value, dict) and value and random.random() > shallow:
        keys = sorted(value)
        if depth == 0 and random.random() < 0.9:
            keys = [key for key in keys if isinstance(value[key], dict | list)] or keys
        key = random.choice(keys)
        changed = dict(value)
        dice = random.random()
        if dice < shallow:
            del changed[key]
        elif dice < 2 * shallow:
            changed[random.choice([each for each in odd if isinstance(each, str)])] = value[key]
        else:
            changed[key] = spoiled(random, value[key], odd, depth + 1)
        return changed
    if isinstance(value, list) and value and random.random() > shallow:
        at = random.randrange(len(value))
        return [*value[:at], spoiled(random, value[at], odd, depth + 1), *value[at + 1 :]]
    return copy.deepcopy(random.choice(odd))


def errors_in(response: list[Any]) -> list[str]:
    """Return what a response says that none may say."""
    name, arguments, _ = response
    if name == "error":
        kind = arguments["type"]
        return [] if kind in METHOD_ERRORS else [kind]
    found = []
    for key in ("notCreated", "notUpdated", "notDestroyed"):
        failed = arguments.get(key) or {}
        found += [each["type"] for each in failed.values() if each["type"] not in SET_ERRORS]
    return found


@pytest.mark.parametrize("seed", range(4))
async def test_spoiled_arguments_are_refused_exactly(
    mail: Mail, alice: Account, bob: Account, seed: int
) -> None:
    random = Random(seed)
    name = await known(mail, alice, bob)
    await share(mail, alice, bob)
    assert right_calls(name).keys() == {
        each
        for each, spec in METHODS.items()
        if spec.capability in (methods.MAIL, methods.SUBMISSION, methods.VACATION)
    }
    odd = [
        None, True, False, 0, -1, 2**53, 1.5, "", "#a", "#none", "x" * 300, "\u0000", "a/b", "~2",
        "\r\nX: y", "\u65e5", [], {}, [None], {"": None}, {"a": {"b": {}}}, [[["x"]]], "header:",
        "2026-02-30T00:00:00Z", "multipart/mixed", "keywords/a/b", "mailboxIds", *name.values(),
    ]  # fmt: skip
    for method, each in right_calls(name).items():
        for arguments in each:
            for _ in range(ROUNDS):
                wrong = arguments
                for _ in range(random.randint(1, 3)):
                    wrong = spoiled(random, wrong, odd)
                if not isinstance(wrong, dict):
                    continue
                call = [method, wrong, "0"]
                try:
                    responses = await run(new_session(mail, alice), call)
                except RequestError:
                    continue  # not a Request at all
                for response in responses:
                    assert errors_in(response) == [], json.dumps(call)


async def share(mail: Mail, alice: Account, bob: Account) -> None:
    """Let alice read the inbox of bob and add to it."""
    from mailserver.mail import mailboxes

    inbox = await mailboxes.by_path(mail, bob.id, "INBOX")
    who = await rights.identify(mail, alice.login)
    given = rights.parse("lrswi")
    await rights.modify(mail, bob.id, inbox.id, who, RightsChange.REPLACE, given)


async def test_right_arguments_are_taken(mail: Mail, alice: Account, bob: Account) -> None:
    name = await known(mail, alice, bob)
    await share(mail, alice, bob)
    refused = {}
    for method, each in right_calls(name).items():
        for arguments in each:
            for response in await run(new_session(mail, alice), [method, arguments, "0"]):
                if response[0] == "error":
                    refused[method] = response[1]
    assert refused == {}
