"""docs/rfcs.md and docs/quirks.md say what the code says, and nothing else."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_cited_rfc_has_a_row_and_every_row_is_cited() -> None:
    cited = {
        int(number)
        for folder in ("mailserver", "migrations")
        for path in (ROOT / folder).rglob("*.py")
        for number in re.findall(r"RFC (\d+)", path.read_text())
    }
    table = (ROOT / "docs" / "rfcs.md").read_text()
    rows = [int(number) for number in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)]
    assert rows == sorted(cited)


def test_a_citation_names_its_section_as_the_house_writes_it() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path in (ROOT / "mailserver").rglob("*.py")
        for match in re.finditer(
            r"\bRFC(?!822)\d|\brfc(?!822) ?\d{3,}|RFC \d+, section|RFC \d+ sec\.", path.read_text()
        )
    ]
    assert wrong == []


def test_every_quirk_has_a_row_and_every_row_a_quirk() -> None:
    package = ROOT / "mailserver"
    marked = {
        (who, str(path.relative_to(package)))
        for path in package.rglob("*.py")
        for who in re.findall(r"QUIRK\(([^)]+)\)", path.read_text())
    }
    table = (ROOT / "docs" / "quirks.md").read_text()
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+\.py) \|", table, re.MULTILINE)
    assert set(rows) == marked
    assert len(rows) == len(marked)
