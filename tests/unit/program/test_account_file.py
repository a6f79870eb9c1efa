from pathlib import Path

import pytest

from mailserver.cli.account_file import read_rows
from mailserver.cli.sizes import parse_size
from mailserver.errors import Invalid


def test_rows_are_checked_one_by_one(tmp_path: Path) -> None:
    file = tmp_path / "people.csv"
    file.write_text(
        "login,name,password,quota,aliases\n"
        'Alice@Example.test,"Alice, A.",secret,10M,sales@example.test;info@example.test\n'
        "bob@example.test,,,,\n"
        "no-address,,,,\n"
        "dave@example.test,,,lots,\n"
        "erin@example.test,,,,,one too many\n"
    )
    alice, bob, no_address, dave, erin = read_rows(file)
    assert (alice.login, alice.name, alice.password) == (
        "alice@example.test",
        "Alice, A.",
        "secret",
    )
    assert alice.quota == 10 << 20
    assert alice.aliases == ("sales@example.test", "info@example.test")
    assert not alice.made
    assert bob.made
    assert len(bob.password) >= 15
    assert bob.error is None
    assert no_address.error
    assert "'lots' is no size" in (dave.error or "")
    assert erin.error == "more fields than columns"
    assert [row.line for row in (alice, bob, erin)] == [2, 3, 6]


@pytest.mark.parametrize("text", ["", "name\nx\n", "login,colour\na,b\n"])
def test_a_file_without_the_columns(tmp_path: Path, text: str) -> None:
    file = tmp_path / "people.csv"
    file.write_text(text)
    with pytest.raises(Invalid, match="names the columns"):
        read_rows(file)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1", 1), ("500M", 500 << 20), ("10 GiB", 10 << 30), ("2kb", 2048), ("1T", 1 << 40)],
)
def test_sizes(text: str, expected: int) -> None:
    assert parse_size(text) == expected


@pytest.mark.parametrize("text", ["", "M", "1.5G", "-1", "1X", "ten", "\u0661M"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(Invalid):
        parse_size(text)
