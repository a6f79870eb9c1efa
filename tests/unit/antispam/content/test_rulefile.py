from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.antispam.content.expressions import BadExpression, compile_expression
from mailserver.antispam.content.rulefile import (
    BadRule,
    Kind,
    Pattern,
    RuleReader,
    RuleSet,
    load,
    parse_pattern,
    parse_rule,
)

SAMPLE = r"""
# a comment
header   SUBJECT_LOUD   Subject =~ /\bFREE\b/i   # behind a rule
header   NO_DATE        Date !~ /\S/ [if-unset: ]
header   HAS_LIST       exists:List-Id
body     MONEY          m{\$\d+ million}
rawbody  __SCRIPT       /<script\b/i
uri      NUMERIC        m,^https?://\d+\.\d+\.\d+\.\d+/,
mimeheader EXE          Content-Disposition =~ /\.exe"?$/i
meta     BOTH           SUBJECT_LOUD && MONEY && !HAS_LIST
meta     MANY           (SUBJECT_LOUD + MONEY + NUMERIC) > 1
body     SHORT          eval:short_of_text('10')
score    MONEY          1 2 3.5 4
score    NO_DATE        0.5
describe MONEY          Speaks of millions
tflags   HAS_LIST       nice
tflags   NUMERIC        multiple maxhits=3
lang de describe MONEY  Millionen
ifplugin Mail::SpamAssassin::Plugin::DKIM
header   SIGNED         eval:check_dkim_signed()
else
meta     UNSIGNED       1
endif
if (version >= 4.000000)
body     NEW            /new/
endif
"""


def rules(text: str) -> RuleSet:
    reader = RuleReader()
    reader.read(text)
    return reader.finish()


def test_reads_every_kind_of_rule() -> None:
    found = rules(SAMPLE)
    assert found.rules["SUBJECT_LOUD"].pattern == Pattern(r"\bFREE\b", "i")
    assert found.rules["NO_DATE"].negated
    assert found.rules["NO_DATE"].score == 0.5
    assert found.rules["HAS_LIST"].selector == "List-Id"
    assert found.rules["HAS_LIST"].score == -1.0
    assert found.rules["MONEY"].score == 3.5  # of the set with a classifier and without network
    assert found.rules["MONEY"].description == "Speaks of millions"
    assert found.rules["__SCRIPT"].score == 0.0
    assert found.rules["NUMERIC"].max_hits == 3
    assert found.rules["NUMERIC"].pattern == Pattern(r"^https?://\d+\.\d+\.\d+\.\d+/")
    assert found.rules["BOTH"].names == {"SUBJECT_LOUD", "MONEY", "HAS_LIST"}
    assert "SIGNED" not in found.rules
    assert found.unusable["SIGNED"] == "needs Mail::SpamAssassin::Plugin::DKIM"
    assert "UNSIGNED" in found.rules
    assert "NEW" in found.rules


def test_a_later_line_wins() -> None:
    found = rules("body A /one/\nbody A /two/\nscore A 1\nscore A (0.5)\n")
    assert found.rules["A"].pattern == Pattern("two")
    assert found.rules["A"].score == 1.5


def test_letters_are_put_into_tagged_rules() -> None:
    found = rules(
        "replace_tag A [a@]\nreplace_tag L [l1]\nreplace_inter W \\W?\n"
        "body X /<inter W><A><L><L>/\nreplace_rules X\n"
    )
    assert found.rules["X"].pattern == Pattern(r"[a@]\W?[l1]\W?[l1]")


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("1 + 2 * 3", 7),
        ("(1 + 2) * 3 > 8", 1),
        ("A && !B || C", 1),
        ("!A || B", 0),
        ("A + B + C >= 2", 0),
        ("7 % 4 == 3 && 1 / 0 == 0", 1),
        ("-1 < 0", 1),
        ("A and not B", 1),
    ],
)
def test_expressions(expression: str, value: float) -> None:
    compiled, _ = compile_expression(expression)
    assert compiled({"A": 1.0, "B": 0.0, "C": 0.0}.__getitem__) == value


@pytest.mark.parametrize("text", ["", "A &&", "(A", "A B", "1 ? 2", "(" * 500 + "A" + ")" * 500])
def test_bad_expressions(text: str) -> None:
    with pytest.raises(BadExpression):
        compile_expression(text)


_terms = st.recursive(  # (as rules write it, as Python does)
    st.sampled_from(["A", "B", "__C", "1", "0", "2.5"]).map(lambda atom: (atom, atom)),
    lambda inner: st.one_of(
        st.tuples(
            inner,
            st.sampled_from(
                [
                    ("&&", "and"),
                    ("||", "or"),
                    *((each, each) for each in ["+", "-", "*", ">", "==", "<="]),
                ]
            ),
            inner,
        ).map(lambda three: tuple(f"({' '.join(side)})" for side in zip(*three, strict=True))),
        inner.map(lambda one: (f"!({one[0]})", f"(not {one[1]})")),
    ),
    max_leaves=12,
)


@given(_terms, st.booleans(), st.booleans())
def test_an_expression_is_what_python_computes(terms: tuple[str, str], a: bool, b: bool) -> None:
    values = {"A": float(a), "B": float(b), "__C": 1.0}
    compiled, names = compile_expression(terms[0])
    assert names <= values.keys()
    assert bool(compiled(values.__getitem__)) == bool(eval(terms[1], {}, values))


@given(st.data())
def test_any_text_is_read_without_an_exception(data: st.DataObject) -> None:
    text = SAMPLE
    for _ in range(data.draw(st.integers(1, 5))):
        at = data.draw(st.integers(0, len(text)))
        cut = data.draw(st.integers(0, 20))
        text = text[:at] + data.draw(st.text(max_size=10)) + text[at + cut :]
    found = rules(text)
    assert all(name == rule.name for name, rule in found.rules.items())


@given(
    st.sampled_from("/|!,%#{(<["),
    st.text(st.characters(codec="ascii", exclude_characters="/|!,%#{}()<>[]\\\n\r \0"), min_size=1),
    st.sampled_from(["", "i", "im", "xs"]),
)
def test_delimiters(delimiter: str, source: str, flags: str) -> None:
    closing = {"{": "}", "(": ")", "<": ">", "[": "]"}.get(delimiter, delimiter)
    pattern = parse_pattern(f"m{delimiter}{source}{closing}{flags}")
    assert pattern == Pattern(source, "".join(sorted(flags)))


@pytest.mark.parametrize("text", ["free", "/free", "m", "/a/q", "Subject /x/"])
def test_what_is_no_pattern(text: str) -> None:
    with pytest.raises(BadRule):
        parse_pattern(text)
    with pytest.raises((BadRule, BadExpression)):
        parse_rule("X", Kind.HEADER, text)


def test_folders_are_read_in_order(tmp_path: Path) -> None:
    (tmp_path / "10.cf").write_text("body A /a/\nscore A 1\n")
    (tmp_path / "20.cf").write_text("score A 2\n")
    (tmp_path / "notes.txt").write_text("body B /b/\n")
    assert load([tmp_path]).rules["A"].score == 2
    assert "B" not in load([tmp_path]).rules
