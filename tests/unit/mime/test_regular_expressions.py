"""Regular expressions that every CPython from 3.11.0 on reads the same way."""

import re
from pathlib import Path

from mailserver.mime import header_fields

SOURCES = Path(__file__).parents[3] / "mailserver"


def test_no_group_repeats_possessively() -> None:
    """CPython before 3.11.4, Debian 12's among them, loses its place in `(?:...)*+`."""
    found = [
        f"{path.name}:{number}"
        for path in SOURCES.rglob("*.py")
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if re.search(r"\)(?:[*+?]|\{[\d,]+\})\+", line) and "CPython" not in line
    ]
    assert found == []


def test_fields_are_found_by_name() -> None:
    block = b"To: a@b\r\nDate: Tue\r\nFrom: c@d,\r\n e@f\r\nSubject: x\r\n\r\n"
    assert header_fields(block, ["DATE", "from"]) == b"Date: Tue\r\nFrom: c@d,\r\n e@f\r\n\r\n"
