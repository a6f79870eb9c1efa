"""Mailbox paths: names of every script, and those that are none."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.errors import Invalid
from mailserver.mail.mailboxes import MAX_DEPTH, MAX_NAME, normal_path

NAMES = [
    "Entwürfe",
    "台北",
    "日本語",
    "ящик",
    "صندوق",
    "मेल",
    "👩\u200d👩\u200d👧",
    "a%b*c",
    "~",
    "#news.x",
]


@pytest.mark.parametrize("name", NAMES)
def test_names_of_every_script(name: str) -> None:
    assert normal_path(f"{name}/{name}/") == f"{name}/{name}"


def test_one_name_however_it_is_spelled() -> None:
    assert normal_path("a\u0308") == "\u00e4"
    assert normal_path("\u212b") == normal_path("A\u030a") == "\u00c5"
    assert normal_path("inbox/InBox") == "INBOX/InBox"
    assert normal_path("\u0131nbox") == "\u0131nbox"  # a dotless i in upper case is an I


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "/a",
        "a//b",
        "a//",
        "a\0",
        "a\r\nb",
        "\x7f",
        "\x85",
        "a\u2028b",
        "\u2029",
        "\ud800",
        "a" * (MAX_NAME + 1),
        "ä" * (MAX_NAME // 2 + 1),
        "/".join("a" * (MAX_DEPTH + 1)),
    ],
)
def test_what_is_no_path(path: str) -> None:
    with pytest.raises(Invalid):
        normal_path(path)


@given(st.text(st.characters(), max_size=20) | st.lists(st.sampled_from(NAMES)).map("/".join))
def test_a_normal_path_is_normal(path: str) -> None:
    try:
        found = normal_path(path)
    except Invalid:
        return
    assert normal_path(found) == found
    assert unicodedata.is_normalized("NFC", found)
    assert found.isprintable() or not any(
        unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"} for character in found
    )
    found.encode()
