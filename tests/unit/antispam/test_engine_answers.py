"""What engines answer: valid answers, cut and changed, give a result or a ValueError."""

import struct
from collections.abc import Callable

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.antispam.edits import AddField, ChangeField
from mailserver.antispam.engines import milter_protocol as milter
from mailserver.antispam.engines.icap import read_head
from mailserver.antispam.engines.link import clean, shown
from mailserver.antispam.engines.rspamd import reading

RSPAMD = orjson.dumps(
    {
        "is_skipped": False,
        "score": 7.5,
        "required_score": 15.0,
        "action": "add header",
        "symbols": {
            "ONE": {"name": "ONE", "score": 3.0, "description": "first"},
            "TWO": {"name": "TWO", "score": 4.0},
        },
    }
)
ICAP = (
    b"ICAP/1.0 200 OK\r\nISTag: x\r\nX-Infection-Found: Type=0; Resolution=2; Threat=Eicar;\r\n"
    b"Encapsulated: res-hdr=0, res-body=20\r\n"
)
AGREED = struct.pack(">III", 6, 0x11, 0x4)


def rspamd(data: bytes) -> object:
    return reading(data, 1)


PARSERS: dict[str, tuple[Callable[[bytes], object], bytes]] = {
    "rspamd": (rspamd, RSPAMD),
    "icap": (read_head, ICAP),
    "milter, agreed": (milter.agreed, AGREED),
    "milter, reply": (milter.replied, b"550 5.7.1 No\0"),
    "milter, add": (lambda data: milter.change(milter.ADDHEADER, data), b"Name\0value\0"),
    "milter, change": (
        lambda data: milter.change(milter.CHGHEADER, data), b"\0\0\0\1Name\0value\0",
    ),
}  # fmt: skip


def test_valid_answers() -> None:
    score, action, symbols = reading(RSPAMD, 2)
    assert (score, action) == (7.5, "add header")
    assert [(each.name, each.score) for each in symbols] == [
        ("ONE", 6), ("TWO", 8), ("REST", 1),
    ]  # fmt: skip
    assert read_head(ICAP).threats() == ["Eicar"]
    assert milter.agreed(AGREED) == milter.Agreed(6, milter.Steps.NOMAIL)
    assert milter.replied(b"451-4.7.1 Wait\0") == (False, "451-4.7.1 Wait")
    assert milter.change(milter.ADDHEADER, b"A\0b\0") == AddField(b"A", b"b")
    assert milter.change(milter.INSHEADER, b"\0\0\0\2A\0b\0") == AddField(b"A", b"b", 2)
    assert milter.change(milter.CHGHEADER, b"\0\0\0\2A\0\0") == ChangeField(b"A", 2, b"")


@pytest.mark.parametrize("name", PARSERS)
@given(st.integers(0, 300), st.binary(max_size=6), st.integers(0, 20))
def test_damaged_answers(name: str, at: int, put: bytes, cut: int) -> None:
    parser, valid = PARSERS[name]
    at %= len(valid) + 1
    try:
        parser(valid[:at] + put + valid[at + cut :])
    except ValueError:
        return


json = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "score": json | st.just(1.0),
            "action": json | st.just("reject"),
            "symbols": json | st.dictionaries(st.text(max_size=5), json, max_size=3),
        },
    )
)
def test_answers_of_any_shape(document: dict[str, object]) -> None:
    try:
        score, action, _ = reading(orjson.dumps(document), 1)
    except ValueError:
        return
    assert abs(score) < 1e6
    assert action


@given(st.binary(max_size=300))
def test_what_is_shown_is_one_printable_line(data: bytes) -> None:
    assert shown(data).isprintable()
    assert clean(data.decode("latin-1")).isprintable()


@given(st.text(max_size=40), st.text(max_size=40))
def test_what_a_milter_is_told_of_a_client_stays_one_packet(name: str, ip: str) -> None:
    told = milter.connect(name, ip)
    (length,) = struct.unpack_from(">I", told)
    assert len(told) == length + 4
    assert told.startswith(b"C", 4)
