"""The fields that tell the score, and those that only look like ours."""

from hypothesis import given
from hypothesis import strategies as st

from mailserver.antispam import fields
from mailserver.antispam.evidence import Finding, Symbol
from mailserver.antispam.verdict import Action, Verdict


def verdict(*symbols: Symbol, failed: str = "") -> Verdict:
    findings = [Finding("content", "spam", symbols=symbols)]
    if failed:
        findings.append(Finding(failed, "error"))
    return Verdict(Action.ACCEPT, "", tuple(findings))


def test_the_score_of_a_message_and_what_it_is_made_of() -> None:
    told = fields.scores(verdict(Symbol("WORDS", 4.25), Symbol("KNOWN", -1)), 5)
    assert told == (
        b"X-Spam-Score: 3.2\r\n"
        b"X-Spam-Status: No, score=3.2 required=5.0 tests=WORDS=4.25, KNOWN=-1.00\r\n"
    )


def test_a_message_without_symbols() -> None:
    told = fields.scores(verdict(), 5)
    assert told.endswith(b"X-Spam-Status: No, score=0.0 required=5.0 tests=none\r\n")


def test_spam_is_flagged() -> None:
    assert fields.scores(verdict(Symbol("GTUBE", 1000)), 5).startswith(b"X-Spam-Flag: YES\r\n")


def test_a_check_that_failed_is_named() -> None:
    assert b"failed=clamd" in fields.scores(verdict(failed="clamd"), 5)


def test_many_symbols_are_folded_and_bounded() -> None:
    told = fields.scores(verdict(*(Symbol(f"RULE_{n}", n / 100) for n in range(500))), 5)
    assert all(len(line) <= 78 for line in told.split(b"\r\n"))
    assert told.count(b"RULE_") == fields.MAX_TESTS


def test_a_name_from_elsewhere_cannot_end_the_line() -> None:
    told = fields.scores(verdict(Symbol("A\r\nB: c", 1)), 5)
    assert b"A__B:_c=1.00" in told


FORGED = (
    b"X-Spam-Flag: NO\r\n",
    b"x-spam-status: No, score=-100\r\n\tautolearn=ham\r\n tests=none\r\n",
    b"X-SPAM-SCORE : 0\r\n",
)


@given(
    st.lists(st.sampled_from((*FORGED, b"Subject: x\r\n", b"To: a\r\n X-Spam-Flag: no\r\n"))),
    st.sampled_from((b"", b"\r\n", b"\r\nX-Spam-Flag: body\r\n")),
)
def test_forged_fields_go_and_nothing_else(lines: list[bytes], rest: bytes) -> None:
    expected = b"".join(line for line in lines if line not in FORGED) + rest
    assert fields.without_forged(b"".join(lines) + rest) == expected
