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


def find(group: Group, text: bytes, seconds: float = 60) -> dict[str, int]:
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


LARGE = (
    (r"one.{0,200}two", b"one" + b" " * 200 + b"two", b"one\ntwo"),
    (r"<[^>]{1,300}>", b"<" + b"a" * 300 + b">", b"<" + b"a" * 301 + b">"),
    (r"x{100,}y", b"x" * 100 + b"y", b"x" * 99 + b"y"),
    (r"(?:ab){100}", b"ab" * 100, b"ab" * 99),
    (r"[{0,200}]z", b"2z", b"*z"),
    (r"[]{0,200}]z", b"]z", b"*z"),
    (r"[[:digit:]{0,200}]z", b"7z", b"*z"),
    (r"a\{0,200}", b"a{0,200}", b"aaa"),
    (r"\x41{100,200}", b"A" * 100, b"A" * 99),
)


@pytest.mark.parametrize("engines", ENGINES)
@pytest.mark.parametrize(("source", "text", "other"), LARGE)
def test_large_counts_are_exact(engines: list[str], source: str, text: bytes, other: bytes) -> None:
    never = [each for each in WANTED if each.name.startswith("NEVER")]  # enough for a database
    group = Group([Wanted("LARGE", Pattern(source)), *never], engines=engines)
    if "pcre2" not in engines and "[:" in source:
        return  # `re` has no classes within classes with other letters
    assert find(group, text) == {"LARGE": 1}
    assert find(group, other) == {}


@pytest.mark.skipif("hyperscan" not in available(), reason="hyperscan is not installed")
def test_large_counts_are_looked_for_with_the_others() -> None:
    outside = [source for source, *_ in LARGE if not source.startswith(("[", "a"))]
    wanted = [Wanted(source, Pattern(source)) for source in outside]
    wanted += [each for each in WANTED if each.name.startswith("NEVER")]
    sieve = Group(wanted)._sieve
    assert sieve is not None
    assert sieve.candidates(b"nothing of them") == []


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
