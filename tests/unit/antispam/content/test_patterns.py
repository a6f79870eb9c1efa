import time

import pytest

from mailserver.antispam.content.patterns import (
    Budget,
    Group,
    OutOfTime,
    Wanted,
    available,
    may_explode,
)
from mailserver.antispam.content.rulefile import Pattern

ENGINES = [["re"], *([["pcre2"], ["hyperscan", "pcre2"]] if len(available()) == 2 else [])]
WANTED = [
    Wanted("FREE", Pattern(r"\bfree\b", "i")),
    Wanted("AHEAD", Pattern(r"cheap(?= watches)")),
    Wanted("BEHIND", Pattern(r"(?<!not )spam")),
    Wanted("TWICE", Pattern(r"\$\d+"), max_hits=2),
    Wanted("CLASS", Pattern(r"[[:digit:]]{4}\z")),
    Wanted("LINE", Pattern(r"^second", "m")),
    Wanted("REFERS", Pattern(r"(\w)\1{4}")),
    *(Wanted(f"NEVER_{n}", Pattern(f"zq{n}x")) for n in range(20)),
]
TEXT = b"FREE and cheap watches, not spam but spam\nsecond $1 $2 $3 aaaaa 2026"


def find(group: Group, text: bytes, seconds: float = 10) -> dict[str, int]:
    found: dict[str, int] = {}
    group.find(text, Budget(seconds, time.monotonic), found)
    return found


@pytest.mark.parametrize("engines", ENGINES)
def test_every_engine_finds_the_same(engines: list[str]) -> None:
    group = Group(WANTED, engines=engines)
    assert group.unusable == {}
    names = ["FREE", "AHEAD", "BEHIND", "CLASS", "LINE", "REFERS"]
    assert find(group, TEXT) == {**dict.fromkeys(names, 1), "TWICE": 2}
    assert find(group, b"") == {}


@pytest.mark.parametrize("engines", ENGINES)
@pytest.mark.parametrize(
    "source", [r"(a+)+$", r"(a|aa)+$", r"(?:a*)*b", r"^(([a-z])+.)+[A-Z]([a-z])+$", r"(.*a){25}b"]
)
def test_an_expression_that_explodes_is_stopped_or_not_used(
    engines: list[str], source: str
) -> None:
    group = Group([Wanted("X", Pattern(source))], engines=engines)
    if "pcre2" not in engines:
        assert "X" in group.unusable
        return
    started = time.process_time()
    find(group, b"a" * 5000 + b"!")
    assert time.process_time() - started < 2


def test_expressions_that_do_not_explode_are_used() -> None:
    for source in (
        r"a+b+",
        r"(?:ab)+",
        r"(a{1,3}b){2,5}",
        r"[(+]+",
        r"\(+\)*",
        r"(?:x+y)++",
        r"(a|b)?",
    ):
        assert not may_explode(source), source


def test_the_time_for_a_message_ends() -> None:
    ticks = iter(range(1000))
    group = Group(WANTED, engines=["re"])
    with pytest.raises(OutOfTime):
        group.find(TEXT, Budget(3, lambda: next(ticks)), {})


def test_what_cannot_be_compiled_is_named() -> None:
    group = Group([Wanted("BAD", Pattern("(")), Wanted("GOOD", Pattern("a"))])
    assert list(group.unusable) == ["BAD"]
    assert find(group, b"a") == {"GOOD": 1}
