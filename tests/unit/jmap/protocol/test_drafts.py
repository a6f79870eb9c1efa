"""Emails that clients write (RFC 8621 §4.6)."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailserver import mime
from mailserver.jmap.protocol.drafts import Draft, read_draft
from mailserver.jmap.protocol.errors import SetError
from mailserver.jmap.protocol.ids import mailbox_text
from mailserver.mime import compose

INBOX = mailbox_text(1)
PLACE = {"mailboxIds": {INBOX: True}}
TEXT = {"partId": "t", "type": "text/plain"}
HTML = {"partId": "h", "type": "text/html"}
VALUES = {"bodyValues": {"t": {"value": "text"}, "h": {"value": "<p>html"}}}
PDF: dict[str, Any] = {"blobId": "b1", "type": "application/pdf", "name": "a.pdf"}
PNG: dict[str, Any] = {"blobId": "b2", "type": "image/png", "cid": "logo@x"}


def resolve(text: str) -> str | None:
    return {"#new": INBOX}.get(text) if text.startswith("#") else text


def read(**given: Any) -> Draft:
    return read_draft({**PLACE, **given}, resolve)


def message(draft: Draft) -> bytes:
    contents = draft.contents.texts | {f"blob:{each}": b"%PDF\0" for each in draft.contents.blobs}
    return compose.message(draft.fields, draft.root, contents, "token")


def refused(**given: Any) -> set[str]:
    with pytest.raises(SetError) as caught:
        read(**given)
    assert caught.value.kind == "invalidProperties"
    return set(caught.value.properties or ())


def types(raw: bytes) -> str:
    """Show the tree of a message as type(parts)."""

    def shown(index: int) -> str:
        children = [at for at, row in enumerate(rows) if row.parent == index]
        inner = ",".join(shown(child) for child in children)
        subtype = rows[index].subtype
        return f"{subtype}({inner})" if rows[index].type == "multipart" else subtype

    rows = mime.part_rows(raw, mime.parse(raw))
    return shown(0)


@pytest.mark.parametrize(
    ("given", "tree"),
    [
        ({}, "plain"),
        ({"textBody": [TEXT]}, "plain"),
        ({"htmlBody": [HTML]}, "html"),
        ({"textBody": [TEXT], "htmlBody": [HTML]}, "alternative(plain,html)"),
        ({"textBody": [TEXT], "attachments": [PDF]}, "mixed(plain,pdf)"),
        ({"attachments": [PDF]}, "mixed(pdf)"),
        ({"htmlBody": [HTML], "attachments": [PNG]}, "related(html,png)"),
        (
            {"textBody": [TEXT], "htmlBody": [HTML], "attachments": [PDF, PNG]},
            "mixed(alternative(plain,related(html,png)),pdf)",
        ),
        ({"htmlBody": [HTML], "attachments": [{**PNG, "disposition": "attachment"}]},
         "mixed(html,png)"),
        ({"bodyStructure": HTML}, "html"),
        (
            {"bodyStructure": {"type": "multipart/mixed", "subParts": [
                {"type": "multipart/alternative", "subParts": [TEXT, HTML]}, PDF]}},
            "mixed(alternative(plain,html),pdf)",
        ),
        ({"bodyStructure": {"subParts": [TEXT]}}, "mixed(plain)"),
    ],
)  # fmt: skip
def test_bodies(given: dict[str, Any], tree: str) -> None:
    assert types(message(read(**VALUES, **given))) == tree


def test_header_fields_in_every_form() -> None:
    raw = message(
        read(**{
            "from": [{"name": "J\u00f6rg", "email": "j@example.org"}],
            "to": [{"email": "a@example.org"}, {"name": None, "email": "b@example.org"}],
            "cc": [],
            "bcc": None,
            "subject": "caf\u00e9",
            "messageId": ["m@x"],
            "references": ["a@x", "b@x"],
            "sentAt": "2026-02-03T04:05:06+02:00",
            "header:X-Raw": " raw",
            "header:X-Text:asText": "gr\u00fc\u00df",
            "header:X-To:asAddresses": [{"email": "c@example.org"}],
            "header:X-Group:asGroupedAddresses": [
                {"name": "G", "addresses": [{"email": "d@example.org"}]}
            ],
            "header:X-Date:asDate": "2026-01-01T00:00:00Z",
            "header:List-Post:asURLs": ["mailto:x@y"],
            "header:X-Many:asText:all": ["one", "two"],
        })
    )  # fmt: skip
    block = mime.HeaderBlock(raw)
    assert [name.decode() for name, _ in block.pairs()][:6] == [
        "Date", "From", "To", "Subject", "Message-ID", "References",
    ]  # fmt: skip
    assert block.last("from") == b" =?utf-8?q?J=C3=B6rg?= <j@example.org>"
    assert block.last("date") == b" Tue, 3 Feb 2026 04:05:06 +0200"
    assert block.all("x-many") == (b" one", b" two")
    assert block.last("x-raw") == b" raw"
    assert mime.as_text(block.last("x-text") or b"") == "gr\u00fc\u00df"
    assert block.last("list-post") == b" <mailto:x@y>"
    assert block.last("cc") is None


def test_properties_of_parts_are_read_back() -> None:
    part = {
        **PDF, "name": "gr\u00fc\u00df.pdf", "disposition": "attachment", "cid": "c@x",
        "language": ["de", "en"], "location": "https://x/y", "header:X-Part:asText": "yes",
    }  # fmt: skip
    raw = message(read(**VALUES, bodyStructure={"subParts": [TEXT, part]}))
    row = mime.part_rows(raw, mime.parse(raw))[2]
    assert (row.name, row.disposition, row.cid) == ("gr\u00fc\u00df.pdf", "attachment", "c@x")
    assert (row.language, row.location) == (("de", "en"), "https://x/y")
    assert mime.HeaderBlock(raw, row.header_start, row.body_start).last("x-part") == b" yes"
    named = message(read(**VALUES, bodyStructure={"subParts": [TEXT, PDF]}))
    row = mime.part_rows(named, mime.parse(named))[2]
    assert (row.name, row.disposition) == ("a.pdf", None)


@pytest.mark.parametrize(
    ("given", "wrong"),
    [
        ({"mailboxIds": {}}, {"mailboxIds"}), ({"mailboxIds": None}, {"mailboxIds"}),
        ({"mailboxIds": {INBOX: False}}, {"mailboxIds"}),
        ({"mailboxIds": {"#none": True}}, {"mailboxIds"}),
        ({"keywords": {"a b": True}}, {"keywords"}), ({"keywords": {"a": None}}, {"keywords"}),
        ({"receivedAt": "yesterday"}, {"receivedAt"}),
        ({"id": "x", "size": 1, "other": 1}, {"id", "size", "other"}),
        ({"headers": []}, {"headers"}),
        ({"from": "a@b"}, {"from"}), ({"from": [{"email": 1}]}, {"from"}),
        ({"from": [{"email": "a@b", "x": 1}]}, {"from"}), ({"subject": 1}, {"subject"}),
        ({"messageId": ["a b"]}, {"messageId"}), ({"sentAt": "2026-02-30T00:00:00Z"}, {"sentAt"}),
        ({"header:Subject:asDate": "x"}, {"header:Subject:asDate"}),
        ({"header:From:asText": "x"}, {"header:From:asText"}),
        ({"subject": "x", "header:SUBJECT:asText": "y"}, {"header:SUBJECT:asText"}),
        ({"header:X:asText": "x", "header:x": "y"}, {"header:x"}),
        ({"header:X": "a\r\nBcc: b"}, {"header:X"}), ({"header:X:all": "a"}, {"header:X:all"}),
        ({"header:Content-Type": "text/html"}, {"header:Content-Type"}),
        ({"header:MIME-Version": "1.0"}, {"header:MIME-Version"}), ({"header:": "x"}, {"header:"}),
        ({"bodyStructure": TEXT, "textBody": [TEXT]}, {"textBody"}),
        ({"textBody": [TEXT, TEXT]}, {"textBody"}), ({"textBody": [HTML]}, {"textBody"}),
        ({"htmlBody": [TEXT]}, {"htmlBody"}), ({"textBody": []}, {"textBody"}),
        ({"textBody": [{"partId": "none"}]}, {"bodyValues"}),
        ({"bodyStructure": {"type": "text/plain"}}, {"bodyStructure"}),
        ({"bodyStructure": {**TEXT, "blobId": "b"}}, {"bodyStructure"}),
        ({"bodyStructure": {**TEXT, "charset": "utf-8"}}, {"bodyStructure"}),
        ({"bodyStructure": {**TEXT, "size": 4}}, {"bodyStructure"}),
        ({"bodyStructure": {**TEXT, "headers": []}}, {"bodyStructure"}),
        ({"bodyStructure": {**TEXT, "what": 1}}, {"bodyStructure"}),
        ({"bodyStructure": {**TEXT, "type": "nonsense"}}, {"bodyStructure"}),
        ({"bodyStructure": {**TEXT, "type": "a/b\r\nX: y"}}, {"bodyStructure"}),
        ({"bodyStructure": {**TEXT, "disposition": "x y"}}, {"bodyStructure"}),
        ({"bodyStructure": {**TEXT, "cid": "a b"}}, {"bodyStructure"}),
        ({"bodyStructure": {**TEXT, "language": "de"}}, {"bodyStructure"}),
        ({"bodyStructure": {**TEXT, "location": "a\nb"}}, {"bodyStructure"}),
        ({"bodyStructure": {**TEXT, "name": 1}}, {"bodyStructure"}),
        ({"bodyStructure": {**TEXT, "disposition": "inline",
                            "header:Content-Disposition": "x"}}, {"bodyStructure"}),
        ({"bodyStructure": {**TEXT, "header:Content-Transfer-Encoding": "7bit"}},
         {"bodyStructure"}),
        ({"bodyStructure": {"type": "text/plain", "subParts": [TEXT]}}, {"bodyStructure"}),
        ({"bodyStructure": {"type": "multipart/mixed"}}, {"bodyStructure"}),
        ({"bodyStructure": {"type": "multipart/mixed", "subParts": []}}, {"bodyStructure"}),
        ({"bodyStructure": {"subParts": [TEXT], "partId": "t"}}, {"bodyStructure"}),
        ({"bodyStructure": {"subParts": [None]}}, {"bodyStructure"}),
        ({"bodyStructure": {**TEXT, "header:X": "a"}, "header:x": "b"}, {"bodyStructure"}),
        ({"bodyValues": {"t": {"value": "x", "isTruncated": True}}}, {"bodyValues"}),
        ({"bodyValues": {"t": "x"}}, {"bodyValues"}), ({"bodyValues": []}, {"bodyValues"}),
        ({"attachments": {}}, {"attachments"}), ({"attachments": ["x"]}, {"attachments"}),
        ({"attachments": [{"subParts": [TEXT]}]}, {"attachments"}),
    ],
)  # fmt: skip
def test_what_cannot_be_a_message_is_named(given: dict[str, Any], wrong: set[str]) -> None:
    assert refused(**{**VALUES, **given}) == wrong


def test_names_in_raw_address_fields_are_encoded_one_by_one() -> None:
    raw = message(read(**{"header:To": ' "J\u00f6rg" <j@example.org>, Team: a@example.org;'}))
    written = mime.HeaderBlock(raw).last("to") or b""
    assert written == b" =?utf-8?q?J=C3=B6rg?= <j@example.org>, Team: a@example.org;"


def test_the_header_is_bounded() -> None:
    assert refused(subject="x" * 100_001) == {"subject"}
    assert refused(to=[{"email": ""}] * 40_000) == {"to"}
    assert refused(**VALUES, attachments=[{**PDF, "name": "x" * 100_001}]) == {"attachments"}


def test_the_tree_is_bounded() -> None:
    deep: dict[str, Any] = TEXT
    for _ in range(21):
        deep = {"subParts": [deep]}
    assert refused(**VALUES, bodyStructure=deep) == {"bodyStructure"}
    assert refused(**VALUES, bodyStructure={"subParts": [TEXT] * 1000}) == {"bodyStructure"}


VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8)
    | st.sampled_from(["t", "h", "b1", "text/plain", "multipart/mixed", "a@b", INBOX]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["partId", "blobId", "type", "subParts", "value", "name", "email", "cid"])
        | st.text(max_size=4),
        inner,
        max_size=4,
    ),
    max_leaves=10,
)  # fmt: skip
WHOLE: dict[str, Any] = {
    **PLACE, **VALUES, "keywords": {"$draft": True}, "from": [{"name": "x", "email": "a@b"}],
    "subject": "x", "sentAt": "2026-01-01T00:00:00Z", "header:X:asText": "y",
    "textBody": [TEXT], "htmlBody": [HTML], "attachments": [PDF, PNG],
}  # fmt: skip


@settings(max_examples=400)
@given(st.data())
def test_any_email_is_made_or_refused(data: st.DataObject) -> None:
    given = dict(WHOLE)
    names = st.sampled_from([*WHOLE, "bodyStructure", "header:a:asURLs:all", "headers"])
    for name in data.draw(st.lists(names, max_size=3)):
        given[name] = data.draw(VALUE)
    try:
        draft = read_draft(given, resolve)
    except SetError as error:
        kind = error.kind
    else:
        kind = "made"
        raw = message(draft)
        assert b"\0" not in raw.split(b"\r\n\r\n")[0]
        assert all(len(line) <= 998 for line in raw.split(b"\r\n"))
    assert kind in {"made", "invalidProperties"}
