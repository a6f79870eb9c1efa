"""Arguments that no client should send: exact errors, never a fault, never another's mail."""

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any, TypeVar

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mailserver.auth.credentials import Authenticator
from mailserver.jmap.protocol.ids import account_text, email_text, thread_text
from mailserver.jmap.server import Application, application
from mailserver.mail import delivery
from mailserver.mail.context import Mail
from mailserver.mail.delivery import Target
from mailserver.model import Account
from tests.jmap_model import USING, JmapClient

PASSWORD = "correct horse"
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
RAW = (
    b"From: =?utf-8?q?J=C3=B6?= <joe@example.org>\r\nTo: undisclosed:;\r\nSubject: Lunch\r\n"
    b"Message-ID: <1@example.org>\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
    b"--b\r\nContent-Type: text/html\r\n\r\n<p>Hello \xff\r\n"
    b"--b\r\nContent-Type: message/rfc822\r\n\r\nSubject: inner\r\n\r\nx\r\n--b--\r\n"
)
EXPECTED = {
    "accountNotFound", "anchorNotFound", "cannotCalculateChanges", "invalidArguments",
    "requestTooLarge", "tooManyChanges", "unsupportedFilter", "unsupportedSort",
}  # fmt: skip

Arguments = dict[str, Any]
T = TypeVar("T")

JUNK = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(allow_nan=False),
        st.text(max_size=20), st.sampled_from(["", "#x", "\0", "e" * 14, "9" * 30, "2026-13-01Z"]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=8,
)  # fmt: skip
TEXT = st.sampled_from(
    ["lunch", "'lu", '"a b" \\\\', "Jö", "$seen", "%", "\\", "x " * 60, "\ud7ff"]
)
CONDITIONS: dict[str, st.SearchStrategy[Any]] = {
    **dict.fromkeys(("text", "from", "to", "cc", "bcc", "subject", "body"), TEXT),
    **dict.fromkeys(("before", "after"), st.sampled_from(["2026-01-01T00:00:00Z"] * 2 + ["x"])),
    **dict.fromkeys(("minSize", "maxSize"), st.sampled_from([0, 5, 2**53 - 1, 2**53, -1])),
    **dict.fromkeys(
        ("hasKeyword", "notKeyword", "allInThreadHaveKeyword", "noneInThreadHaveKeyword"), TEXT
    ),
    "hasAttachment": st.booleans(),
    "inMailbox": TEXT,
    "inMailboxOtherThan": st.lists(TEXT, max_size=2),
    "header": st.lists(st.sampled_from(["subject", "X-\0", "", "lunch"]), max_size=3),
    **dict.fromkeys(("name", "role", "parentId"), st.one_of(TEXT, st.none())),
    **dict.fromkeys(("isSubscribed", "hasAnyRole"), st.booleans()),
    "nonsense": JUNK,
}
CONDITION = st.fixed_dictionaries(
    {}, optional={name: st.one_of(value, value, JUNK) for name, value in CONDITIONS.items()}
)
ONE = st.sampled_from(sorted(CONDITIONS)).flatmap(
    lambda name: st.fixed_dictionaries({name: CONDITIONS[name]})
)
FILTER = st.recursive(
    st.one_of(ONE, ONE, CONDITION, JUNK),
    lambda inner: st.fixed_dictionaries(
        {
            "operator": st.sampled_from(["AND", "OR", "NOT", "NOT", "XOR", None]),
            "conditions": st.lists(inner, max_size=4),
        }
    ),
    max_leaves=6,
)
COMPARATOR = st.fixed_dictionaries(
    {
        "property": st.sampled_from(
            ["receivedAt", "size", "from", "to", "subject", "sentAt", "hasKeyword", "name",
             "someInThreadHaveKeyword", "allInThreadHaveKeyword", "sortOrder", "nonsense"]
        )
    },
    optional={
        "isAscending": st.booleans(),
        "keyword": st.one_of(TEXT, JUNK),
        "collation": st.one_of(st.sampled_from(["i;ascii-casemap", "i;octet", None]), JUNK),
    },
)  # fmt: skip
NUMBER = st.sampled_from([0, 1, 5, -1, -(2**53) + 1, 2**53 - 1, 2**60, None])
PROPERTY = st.sampled_from(
    ["id", "subject", "name", "emailIds", "bodyValues", "bodyStructure", "attachments", "headers",
     "header:Subject:asText", "header:Subject:asDate", "header:X:all", "header::", "header:a:b:c",
     "header:From:asGroupedAddresses:all", "nonsense", "", "header:" + "x" * 300, "totalThreads"]
)  # fmt: skip
BODY_PROPERTY = st.sampled_from(
    ["partId", "headers", "header:Content-Type", "header:a:asURLs", "subParts", "nonsense", "size"]
)
QUERY = {
    "filter": FILTER, "sort": st.lists(COMPARATOR, max_size=3), "calculateTotal": st.booleans(),
    "collapseThreads": st.booleans(), "sortAsTree": st.booleans(), "filterAsTree": st.booleans(),
}  # fmt: skip
PAGE = {"position": NUMBER, "anchorOffset": NUMBER, "limit": NUMBER}


def arguments_of(method: str, ids: list[str]) -> st.SearchStrategy[Arguments]:
    """Return what a method may be sent: mostly right, with anything in any place."""
    some = st.lists(st.one_of(st.sampled_from(ids), st.sampled_from(ids), TEXT), max_size=5)
    one = st.one_of(st.sampled_from(ids), TEXT)
    known: dict[str, st.SearchStrategy[Any]]
    match method.partition("/")[2]:
        case "get" if method == "SearchSnippet/get":
            known = {"filter": FILTER, "emailIds": some}
        case "get":
            known = {"ids": some, "properties": st.lists(PROPERTY, max_size=3)}
            if method == "Email/get":
                fetch = ("fetchTextBodyValues", "fetchHTMLBodyValues", "fetchAllBodyValues")
                known |= {
                    "bodyProperties": st.lists(BODY_PROPERTY, max_size=3),
                    "maxBodyValueBytes": NUMBER, **dict.fromkeys(fetch, st.booleans()),
                }  # fmt: skip
        case "changes":
            known = {"sinceState": st.sampled_from(["0", "1", "1-1", "x", "9" * 19, "9" * 40])}
            known["maxChanges"] = NUMBER
        case "query":
            known = QUERY | PAGE | {"anchor": one}
        case _:
            known = QUERY | {"upToId": one, "maxChanges": NUMBER}
            known["sinceQueryState"] = st.sampled_from(["0", "1", "x", "9" * 18, "9" * 40])
    account = st.sampled_from([ids[0], ids[0], ids[0], ids[0], ids[0], "a", "#x"])
    return st.fixed_dictionaries(
        {},
        optional={
            "accountId": account,
            **{name: st.one_of(value, value, value, value, JUNK) for name, value in known.items()},
        },
    )


METHODS = [
    "Mailbox/get", "Mailbox/changes", "Mailbox/query", "Mailbox/queryChanges", "Thread/get",
    "Thread/changes", "Email/get", "Email/changes", "Email/query", "Email/queryChanges",
    "SearchSnippet/get",
]  # fmt: skip


# kind of method -> arguments that are answered, which chance alone may never make
RIGHT: dict[str, Arguments] = {
    "changes": {"sinceState": "1"},
    "queryChanges": {"sinceQueryState": "1"},
}


@pytest_asyncio.fixture
async def client(mail: Mail, alice: Account, bob: Account) -> AsyncIterator[JmapClient]:
    async def ready() -> list[str]:
        return []

    authenticator = Authenticator(mail.database, passwords=mail.passwords)
    app: Application = application(mail=mail, authenticator=authenticator, ready=ready)
    yield JmapClient(app, account_text(alice.id), alice.login, PASSWORD)


@pytest.mark.parametrize("method", METHODS)
async def test_any_arguments(
    client: JmapClient, mail: Mail, alice: Account, bob: Account, method: str
) -> None:
    own = await delivery.accept(mail, RAW, [Target(alice.id)], received_at=NOW)
    foreign = await delivery.accept(mail, RAW, [Target(bob.id)], received_at=NOW)
    (mine,), (theirs,) = own.delivered, foreign.delivered
    ids = [
        client.account, email_text(mine.email_id), thread_text(mine.thread_id),
        email_text(theirs.email_id), thread_text(theirs.thread_id), account_text(bob.id),
    ]  # fmt: skip
    answered = set()
    right: Arguments = {"accountId": client.account, **RIGHT.get(method.partition("/")[2], {})}
    batches = examples(st.lists(arguments_of(method, ids), min_size=1, max_size=8))
    for batch in ([right], *batches):
        for asked in batch:
            asked.setdefault("accountId", client.account)
        calls = [[method, asked, str(at)] for at, asked in enumerate(batch)]
        status, answer = await client.post(
            json.dumps({"using": USING, "methodCalls": calls}).encode()
        )
        if status == 400:  # half a character, or a number that is none
            assert answer["type"].rpartition(":")[2] == "notJSON", answer
            continue
        assert status == 200, answer
        for (name, found, at), asked in zip(answer["methodResponses"], batch, strict=True):
            answered.add(name)
            if name == "error":
                assert found["type"] in EXPECTED, (found, asked)
                continue
            shown = json.dumps([found.get("list"), found.get("ids"), at])
            assert ids[3] not in shown
            assert ids[4] not in shown
    assert answered == {"error", method}


def examples(strategy: st.SearchStrategy[T]) -> list[T]:
    """Return examples of a strategy, to be used where a test is asynchronous."""
    found: list[T] = []

    @settings(max_examples=60, suppress_health_check=list(HealthCheck), database=None)
    @given(strategy)
    def collect(value: T) -> None:
        found.append(value)

    collect()
    return found
