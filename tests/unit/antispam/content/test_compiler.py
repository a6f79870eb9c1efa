import sys
import time

import pytest

from mailserver.antispam.content.filter import ContentFilter, FilterBroken
from mailserver.antispam.content.patterns import (
    Budget,
    Group,
    Row,
    Wanted,
    available,
    compiled,
)
from mailserver.antispam.content.rulefile import Pattern
from mailserver.app.compiler import CompilerEnded, compiler
from mailserver.metrics import Metrics

pytestmark = pytest.mark.skipif("hyperscan" not in available(), reason="hyperscan is not installed")

NEVER = [Wanted(f"NEVER_{n}", Pattern(f"zq{n}x")) for n in range(20)]
GROUPS = [
    [Wanted("FREE", Pattern(r"\bfree\b", "i")), *NEVER],
    [Wanted("AHEAD", Pattern(r"cheap(?= watches)")), Wanted("OTHER", Pattern("nothing")), *NEVER],
]


def test_another_process_compiles_the_same() -> None:
    text = b"FREE and cheap watches"
    found: dict[str, int] = {}
    with compiler() as compile_rows:
        for wanted in GROUPS:
            group = Group(wanted, compile_rows=compile_rows)
            group.find(text, Budget(10, time.monotonic), found)
    assert found == {"FREE": 1, "AHEAD": 1}


def test_it_says_which_it_cannot_do() -> None:
    rows = [Row(b"good", 3, 0), Row(b"(", 5, 0), Row(b"fine", 7, 0)]
    with compiler() as compile_rows:
        made = compile_rows(rows)
        assert (made.refused, bool(made.octets)) == ([5], True)
        assert made == compiled(rows)
        assert compile_rows(rows[1:2]) == (b"", [5])


@pytest.mark.parametrize("said", ["", "print('x')"])
def test_one_that_ends_early_is_told(said: str) -> None:
    with (
        pytest.raises((CompilerEnded, BrokenPipeError)),
        compiler([sys.executable, "-c", said]) as compile_rows,
    ):
        compile_rows([Row(b"good", 1, 0)])


async def test_a_filter_without_its_compiler_is_told_to_be_broken() -> None:
    metrics = Metrics("mailserver")
    content = ContentFilter(metrics=metrics, compiler=lambda: compiler([sys.executable, "-c", ""]))
    with pytest.raises(OSError, match=r"ended|pipe"):
        await content.load()
    with pytest.raises(FilterBroken):
        content.engine  # noqa: B018


async def test_the_filter_works_with_what_was_compiled_there() -> None:
    content = ContentFilter(compiler=compiler)
    await content.load()  # which looks for the test pattern
    assert len(content.engine)
