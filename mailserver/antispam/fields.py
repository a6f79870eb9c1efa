"""The header fields that tell what was found, and those of others that only look like ours.

`X-Spam-Status`, `X-Spam-Score` and `X-Spam-Flag` are what mail programs and users' rules know since
SpamAssassin. What a message brings along of them was written by its sender.
"""

import re

from mailserver.antispam.stretches import stretches
from mailserver.antispam.verdict import Verdict
from mailserver.mime.fields import folded

OURS = (b"x-spam-status", b"x-spam-score", b"x-spam-flag")
MAX_TESTS = 50  # symbols that are named
_FIELD = re.compile(
    rb"^(?:" + b"|".join(OURS) + rb")[ \t]*:[^\n]*\n(?:[ \t][^\n]*\n)*",
    re.IGNORECASE | re.MULTILINE,
)
_UNSAFE = re.compile(r"[^\x21-\x7e]|,")


def scores(verdict: Verdict, junk_score: float) -> bytes:
    """Return the fields that tell the score of a message, and what it is made of."""
    is_spam = verdict.score >= junk_score
    symbols = [symbol for finding in verdict.findings for symbol in finding.symbols]
    symbols.sort(key=lambda symbol: -abs(symbol.score))
    tests = [f"{_UNSAFE.sub('_', each.name)}={each.score:.2f}," for each in symbols[:MAX_TESTS]]
    failed = [each.check for each in verdict.findings if each.result == "error"]
    words = [
        " Yes," if is_spam else " No,",
        f" score={verdict.score:.1f}",
        f" required={junk_score:.1f}",
        *([f" failed={','.join(failed)}"] if failed else []),
        f" tests={tests[0]}" if tests else " tests=none",
        *(f" {test}" for test in tests[1:]),
    ]
    status = folded("X-Spam-Status", words).removesuffix(b",")
    flag = b"X-Spam-Flag: YES\r\n" if is_spam else b""
    score = f"X-Spam-Score: {verdict.score:.1f}\r\n".encode()
    return flag + score + b"X-Spam-Status:" + status + b"\r\n"


def without_forged(raw: bytes) -> bytes:
    """Return a message without the fields that `scores` makes."""
    end = 0 if raw.startswith(b"\r\n") else raw.find(b"\r\n\r\n") + 2
    size = len(raw) if end == 1 else end
    parts: list[bytes] = []
    for start, stop in stretches(raw, size):
        piece = raw[start:stop]
        # looking for the fields takes long in a header of megabytes
        parts.append(_FIELD.sub(b"", piece) if b"x-spam-" in piece.lower() else piece)
    return raw if sum(map(len, parts)) == size else b"".join([*parts, raw[size:]])
