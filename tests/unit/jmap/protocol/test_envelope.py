"""Envelopes of submissions."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.jmap.protocol.envelope import By, envelope, xtext
from mailserver.jmap.protocol.properties import WrongType

ALICE: dict[str, Any] = {"email": "alice@example.test"}
CAROL: dict[str, Any] = {"email": "carol@example.org", "parameters": None}


def test_addresses_come_back_as_they_were_given() -> None:
    given_parameters = {"HoldFor": "60", "smtputf8": None, "ENVID": "a b"}
    found = envelope(
        {
            "mailFrom": ALICE | {"parameters": given_parameters},
            "rcptTo": [CAROL, CAROL | {"parameters": {"NOTIFY": "success,DELAY"}}, ALICE],
        }
    )
    assert found.mail_from.parameters == {
        "HOLDFOR": timedelta(minutes=1),
        "SMTPUTF8": True,
        "ENVID": "a b",
    }
    assert [each.email for each in found.rcpt_to] == ["carol@example.org", "alice@example.test"]
    assert found.rcpt_to[0].parameters == {"NOTIFY": "SUCCESS,DELAY"}
    assert found.json() == {
        "mailFrom": ALICE | {"parameters": given_parameters},
        "rcptTo": [
            CAROL | {"parameters": {"NOTIFY": "success,DELAY"}},
            ALICE | {"parameters": None},
        ],
    }


def test_a_time_to_wait_for() -> None:
    found = envelope(
        {
            "mailFrom": ALICE | {"parameters": {"HOLDUNTIL": "2026-12-24T18:00:00Z"}},
            "rcptTo": [],
        }
    )
    assert found.mail_from.parameters["HOLDUNTIL"] == datetime(2026, 12, 24, 18, tzinfo=UTC)


@pytest.mark.parametrize(
    "value",
    [
        [],
        {},
        {"mailFrom": ALICE},
        {"mailFrom": ALICE, "rcptTo": CAROL},
        {"mailFrom": ALICE, "rcptTo": ["carol@example.org"]},
        {"mailFrom": None, "rcptTo": [CAROL]},
        {"mailFrom": ALICE, "rcptTo": [CAROL], "more": 1},
        {"mailFrom": {"email": 1}, "rcptTo": [CAROL]},
        {"mailFrom": ALICE | {"parameters": []}, "rcptTo": [CAROL]},
        {"mailFrom": ALICE | {"name": "Alice"}, "rcptTo": [CAROL]},
    ],
)
def test_what_is_no_envelope(value: object) -> None:
    with pytest.raises(WrongType):
        envelope(value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HOLDFOR", None),
        ("HOLDFOR", "-1"),
        ("HOLDFOR", "1e3"),
        ("HOLDFOR", "٣"),
        ("HOLDFOR", "9" * 5000),
        ("HOLDFOR", 60),
        ("HOLDUNTIL", "tomorrow"),
        ("HOLDUNTIL", "2026-12-24T18:00:00+01:00"),
        ("BY", None),
        ("BY", "120"),
        ("BY", "0;R"),
        ("BY", "120;R;T"),
        ("BY", "٣;N"),
        ("MT-PRIORITY", None),
        ("MT-PRIORITY", "10"),
        ("MT-PRIORITY", "-0"),
        ("BODY", "BINARYMIME"),
        ("RET", "SOME"),
        ("ENVID", ""),
        ("ENVID", "a\r\nRCPT TO:<x@y.test>"),
        ("SMTPUTF8", ""),
        ("NOTIFY", "NEVER"),
        ("X-OTHER", "1"),
    ],
)
def test_wrong_parameters(name: str, value: object) -> None:
    with pytest.raises(WrongType):
        envelope({"mailFrom": ALICE | {"parameters": {name: value}}, "rcptTo": [CAROL]})


@pytest.mark.parametrize("value", ["NEVER,SUCCESS", "success,SUCCESS", "", None, "ALWAYS"])
def test_wrong_wishes(value: str | None) -> None:
    with pytest.raises(WrongType):
        envelope({"mailFrom": ALICE, "rcptTo": [CAROL | {"parameters": {"NOTIFY": value}}]})


def test_urgency() -> None:
    parameters = {"by": "-5;nT", "mt-priority": "-9"}
    found = envelope({"mailFrom": ALICE | {"parameters": parameters}, "rcptTo": [CAROL]})
    assert found.mail_from.parameters == {"BY": By(-5, False, True), "MT-PRIORITY": -9}


def test_xtext() -> None:
    assert xtext("a+b=c d~ü") == "a+2Bb+3Dc+20d~+C3+BC"


json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["email", "parameters", "HOLDFOR", "ORCPT", "x"]), inner, max_size=3
        )
    ),
    max_leaves=8,
)


@given(st.fixed_dictionaries({"mailFrom": json, "rcptTo": st.lists(json, max_size=3) | json}))
def test_anything_is_an_envelope_or_none(value: Any) -> None:
    try:
        found = envelope(value)
    except WrongType:
        return
    assert envelope(found.json()) == found
