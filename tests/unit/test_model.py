"""Ids as text, flags as bits and names."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.model import (
    DELETED,
    DRAFT,
    FLAG_NAMES,
    SEEN,
    Flags,
    IdKind,
    flag_bit,
    id_text,
    id_value,
)

IDS = st.integers(0, 2**63 - 1)


@given(st.sampled_from(IdKind), IDS)
def test_an_id_survives_its_text(kind: IdKind, value: int) -> None:
    text = id_text(kind, value)
    assert len(text) == 14
    assert id_value(kind, text) == value


@given(IDS, IDS)
def test_texts_sort_as_their_ids(one: int, other: int) -> None:
    assert (id_text(IdKind.EMAIL, one) < id_text(IdKind.EMAIL, other)) == (one < other)


@pytest.mark.parametrize(
    "text",
    [
        "", "e", "m0000000000000", "e000000000000", "e00000000000000", "e000000000000i",
        "e000000000000A", "e000000000_000", "e+000000000000", "e 000000000000", "e000000000000\n",
        "ezzzzzzzzzzzzz", "e" + "\u0660" * 13,
    ],
)  # fmt: skip
def test_what_is_no_id(text: str) -> None:
    assert id_value(IdKind.EMAIL, text) is None


NAMES = st.lists(
    st.sampled_from([name for _, name, _ in FLAG_NAMES] + ["Blue", "blue", "RED", "$Custom"])
)


@given(NAMES)
def test_flags_are_read_in_any_case_and_shown_once(names: list[str]) -> None:
    flags = Flags.of(names)
    assert {name.lower() for name in flags.names()} == {name.lower() for name in names}
    assert len(flags.names()) == len(set(flags.names()))
    assert Flags.of(name.upper() for name in flags.names()).bits == flags.bits


def test_a_keyword_keeps_its_first_case() -> None:
    assert Flags.of(["Blue", "BLUE"]).keywords == ("Blue",)


@given(NAMES)
def test_jmap_sees_lower_case_and_never_deleted(names: list[str]) -> None:
    shown = Flags.of(names).jmap()
    assert all(shown.values())
    assert all(name == name.lower() for name in shown)
    assert "$deleted" not in shown
    assert Flags.of_keywords(shown).jmap() == shown


def test_system_flags_have_their_bits() -> None:
    assert Flags.of(["\\Seen", "\\DELETED", "$Junk"]).bits == SEEN | DELETED | 1 << 7
    assert Flags.of_keywords(["$seen", "$draft"]).bits == SEEN | DRAFT
    assert flag_bit("\\seen") == SEEN
    assert flag_bit("Blue") is None
