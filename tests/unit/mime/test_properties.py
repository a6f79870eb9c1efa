"""Whatever the octets are: no exception, offsets in order, grammar kept."""

import email
import email.policy
import json
import random
from email.message import EmailMessage

import msgpack  # type: ignore[import-untyped]
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailserver.mime import (
    Env,
    Part,
    as_grouped_addresses,
    as_text,
    body,
    body_structure_jmap,
    bodystructure,
    decode_body,
    decode_text,
    digest,
    envelope,
    header_fields,
    parse,
    search_text,
    section_range,
    structures,
)
from mailserver.mime.bodies import decoded_size
from mailserver.mime.headers import HeaderBlock, below_fields
from mailserver.mime.stored import ENV_VERSION
from tests.unit.mime.imap_grammar import check_body, check_envelope, read

FIELDS = [
    b'From: "A, B" <a@example.test>, Team: c@example.test;\r\n',
    b"To: =?utf-8?Q?J=C3=A9?= <j@example.test> (note (nested))\r\n",
    b"Cc: <@route.example:x@example.org>, plain@example.org\r\n",
    b"Subject: Re: [x] =?iso-8859-1?B?6ek=?=\r\n =?utf-8?q?_=C3?= =?utf-8?q?=A9?=\r\n",
    b"Date: Tue, 24 Nov 2026 11:05:12 +0100 (CET)\r\n",
    b"Message-ID: <1@example.test>\r\nReferences: <0@example.test>\r\n\t<2@example.test>\r\n",
    b"Content-Type: text/html; charset=koi8-r\r\n",
    b'Content-Type: multipart/mixed; boundary="b1"\r\n',
    b"Content-Type: multipart/alternative; boundary=b2; x*0=a; x*1*=utf-8''%41\r\n",
    b"Content-Type: message/rfc822\r\n",
    b"Content-Type: image/png; name*=utf-8''%E2%82%AC.png\r\n",
    b"Content-Transfer-Encoding: base64\r\n",
    b"Content-Transfer-Encoding: quoted-printable\r\n",
    b'Content-Disposition: attachment; filename="a\\"b.txt"\r\n',
    b"Content-ID: <c1@example.test>\r\nContent-Language: de, en\r\n",
]
BODIES = [
    b"\r\n", b"--b1\r\n", b"--b2\r\n", b"--b1--\r\n", b"--b2--\r\n", b"plain text\r\n",
    b"aGVsbG8gd29ybGQ=\r\n", b"caf=E9 =\r\nsoft=3D\r\n", b"<p>html &amp; <b>bold</b></p>\r\n",
    b"> quoted\r\n", b"-- \r\nsignature\r\n", b"\xe9\xff\0\r\n", b"\n", b"\r",
]  # fmt: skip


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    """Valid pieces in any order, then cut, doubled and replaced."""
    raw = b"".join(draw(st.lists(st.sampled_from(FIELDS + BODIES), max_size=24)))
    for _ in range(draw(st.integers(0, 4))):
        if not raw:
            break
        start = draw(st.integers(0, len(raw) - 1))
        end = draw(st.integers(start, min(len(raw), start + 40)))
        piece = draw(st.sampled_from([b"", raw[start:end] * 2, b"\0", b'"', b"(", b"\n", b"\xff"]))
        raw = raw[:start] + piece + raw[end:]
    return raw


@settings(max_examples=200)
@given(messages() | st.binary(max_size=200))
def test_any_octets(raw: bytes) -> None:
    message = parse(raw)
    check_envelope(read(envelope(message)))
    check_body(read(bodystructure(message)), extended=True)
    check_body(read(body(message)), extended=False)
    for part in message.parts:
        check_places(part)
        octets = raw[part.body_start : part.body_end]
        size = decoded_size(raw, part.body_start, part.body_end, part.encoding)
        assert size == len(decode_body(octets, part.encoding))
        decode_text(octets, part.charset, part.encoding)[0].encode()
    assert message.root.header_start == 0
    assert message.root.body_end == len(raw)
    search_text(raw, message, 1000).body.encode()


def check_places(part: Part) -> None:
    assert part.header_start <= part.body_start <= part.body_end
    position = part.body_start
    for child in part.children:
        assert position <= child.header_start
        position = child.body_end
    assert position <= part.body_end
    assert bool(part.children) == (part.type == "multipart")


@settings(max_examples=200)
@given(messages())
def test_what_is_stored_says_what_the_message_says(raw: bytes) -> None:
    message = parse(raw)
    stored = digest(raw)
    env = Env.unpack(stored.env)
    assert (env.envelope, env.body) == (envelope(message), body(message))
    assert env.bodystructure == bodystructure(message)
    assert env.preview == stored.preview
    assert len(stored.preview) <= 256
    assert stored.header == raw[: message.root.body_start]
    shown = json.loads(env.jmap)
    assert shown == {name: orjson.loads(value) for name, value in env.properties.items()}
    assert shown["hasAttachment"] == stored.has_attachment
    for row, part in zip(env.parts, message.parts, strict=True):
        assert (row.section, row.body_start, row.body_end) == (
            part.section, part.body_start, part.body_end,
        )  # fmt: skip
        if part.section[-1:].isdigit():
            assert section_range(env.parts, part.section) == (part.body_start, part.body_end)
    jmap = body_structure_jmap(env.parts, lambda part: part.section)
    leaves = {row.section for row in env.parts if row.type != "multipart"}
    for listed in (jmap["textBody"], jmap["htmlBody"], jmap["attachments"]):
        assert {part["partId"] for part in listed} <= leaves
    assert "\0" not in f"{stored.subject_base}{stored.message_id}{stored.references}{env.preview}"


@settings(max_examples=100)
@given(messages(), st.floats(0, 1))
def test_a_stored_env_that_is_cut_says_the_same_or_nothing(raw: bytes, part: float) -> None:
    stored = digest(raw).env
    env = Env.unpack(stored)
    told = (env.envelope, env.bodystructure)
    known = len(msgpack.packb(told)) + 1  # with the version
    length = 1 + int(part * (len(stored) - 1))
    assert structures([stored, stored[:length], stored[:known], stored[: known - 1]]) == [
        told, told if length >= known else None, told, None,
    ]  # fmt: skip


@pytest.mark.parametrize(("size", "found"), [(0, True), (255, True), (65535, True), (65536, False)])
def test_structures_of_any_size_are_found_or_left_to_the_whole_env(size: int, found: bool) -> None:
    fields = (b"e" * size, b"s" * size, b"", b"", b"", "")
    env = bytes((ENV_VERSION,)) + msgpack.packb(fields)
    assert structures([env]) == [fields[:2] if found else None]
    with pytest.raises(ValueError, match="version"):
        structures([env, b"\x02" + env[1:]])


@settings(max_examples=150)
@given(messages())
def test_line_ends_do_not_change_the_tree(raw: bytes) -> None:
    with_lf = raw.replace(b"\r\n", b"\n").replace(b"\r", b"")
    with_crlf = with_lf.replace(b"\n", b"\r\n")

    def tree(octets: bytes) -> list[tuple[str, int, str, bytes]]:
        return [
            (p.section, p.parent, p.subtype,
             octets[p.body_start : p.body_end].replace(b"\r\n", b"\n"))
            for p in parse(octets).parts
        ]  # fmt: skip

    assert tree(with_lf) == tree(with_crlf)


@settings(max_examples=150)
@given(messages(), st.sets(st.sampled_from(["from", "to", "subject", "content-type", "x"])))
def test_fields_and_the_others_make_the_header(raw: bytes, names: set[str]) -> None:
    block = parse(raw).header
    octets = raw[: block.body_start]
    chosen = header_fields(octets, names)
    others = header_fields(octets, names, exclude=True)
    counted = [name for name, _ in block.pairs() if name]
    wanted = [name for name in counted if name.decode().lower() in names]
    assert len([n for n, _ in parse(chosen).header.pairs() if n]) == len(wanted)
    assert len([n for n, _ in parse(others).header.pairs() if n]) == len(counted) - len(wanted)


ON_TOP = b"Return-Path: <a@example.org>\r\nReceived: from x by y;\r\n\tFri, 27 Nov 2026 06:00\r\n"
STRAY = [b"", b" ", b"\t", b" folded\r\n", b"no field\r\n", b"From x\r\n", b"\r", b":\r\n", b"\0"]


@settings(max_examples=400)
@given(st.sampled_from(STRAY), messages())
def test_fields_on_top_do_not_change_what_is_below(stray: bytes, raw: bytes) -> None:
    above, below = HeaderBlock(ON_TOP).pairs(), below_fields(stray + raw)
    assert HeaderBlock(ON_TOP + below).pairs() == [*above, *HeaderBlock(below).pairs()]
    assert below.endswith(stray + raw)


@settings(max_examples=150)
@given(st.binary(max_size=300) | st.text('(<>@,:;"\\ a.=?[]\r\n', max_size=60).map(str.encode))
def test_addresses_and_text_of_anything(value: bytes) -> None:
    as_text(value).encode()
    for group in as_grouped_addresses(value):
        for address in group["addresses"]:
            address["email"].encode()


# The standard library as the oracle -----------------------------------------------------------


def generated(seed: int) -> EmailMessage:
    """A message by the standard library's generator: text, HTML, related image, file, message."""
    source = random.Random(seed)
    message = EmailMessage()
    message["Subject"] = source.choice(["plain", "Grüße aus Köln", "日本語 " * 9, "Re: [x] y"])
    message["From"] = "Ann Example <ann@example.test>"
    message["To"] = '"B, C" <b@example.test>, Jürgen <j@example.test>, d@example.test'
    text = "Hallo Wörld\n" * source.randint(1, 60) + "x" * source.randint(0, 1200)
    message.set_content(text, cte=source.choice(["8bit", "quoted-printable", "base64"]))
    if source.random() < 0.6:
        message.add_alternative(f"<p>{text}</p>", subtype="html")
        if source.random() < 0.5:
            parts = message.get_payload()
            assert isinstance(parts, list)
            related = parts[1]
            assert isinstance(related, EmailMessage)
            related.add_related(source.randbytes(99), "image", "png", cid="<i@example.test>")
    if source.random() < 0.6:
        name = source.choice(["a.bin", "Rechnung März.pdf", "x" * 120 + ".bin"])
        message.add_attachment(source.randbytes(500), "application", "pdf", filename=name)
    if source.random() < 0.3:
        message.add_attachment(generated(seed + 1_000))
    return message


@pytest.mark.parametrize("seed", range(40))
def test_generated_messages_are_read_as_the_standard_library_reads_them(seed: int) -> None:
    policy = email.policy.SMTP.clone(cte_type="8bit")
    raw = generated(seed).as_bytes(policy=policy)
    oracle = email.message_from_bytes(raw, policy=email.policy.default)
    message = parse(raw)
    theirs = list(oracle.walk())
    assert [f"{p.type}/{p.subtype}" for p in message.parts] == [
        p.get_content_type() for p in theirs
    ]
    for ours, other in zip(message.parts, theirs, strict=True):
        if ours.type == "multipart" or ours.message is not None:
            continue
        octets = raw[ours.body_start : ours.body_end]
        assert decode_body(octets, ours.encoding) == other.get_payload(decode=True)
        assert isinstance(other, EmailMessage)
        assert ours.name == other.get_filename()
    properties = Env.unpack(digest(raw).env).properties
    assert orjson.loads(properties["subject"]).strip() == str(oracle["subject"]).strip()
    for name in ("from", "to"):
        assert orjson.loads(properties[name]) == [
            {"name": a.display_name or None, "email": a.addr_spec} for a in oracle[name].addresses
        ]
