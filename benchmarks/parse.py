"""CPU time of reading a message: parse + ENVELOPE + BODYSTRUCTURE, and `digest` as a whole.

The standard library's parser runs beside it on the same octets, so that the ratio holds on any
machine. The messages are made here, always the same, in the shapes that mail of such sizes mostly
has: plain text at 3 kB, text and HTML at 20 kB, both and a file at 1 MB.
"""

import base64
import email.parser
import email.policy
import json
import quopri
import random
import time
from collections.abc import Callable

from mailserver.mime import bodystructure, digest, envelope, parse

TARGETS_MS = {"structure_20k": 0.15, "digest_20k": 0.20}
_WORDS = (  # noqa: SIM905
    "meeting agenda the quarterly figures attached please review before Thursday and let me know "
    "whether budget numbers from last year still hold for our new building in the harbour café"
).split()


def message(size: int) -> bytes:
    """Make a multipart message of about `size` octets: trace fields, text, HTML, a file if big."""
    source = random.Random(size)

    def text(length: int) -> str:
        lines, total = [], 0
        while total < length:
            line = " ".join(source.choices(_WORDS, k=11))
            lines.append(line)
            total += len(line) + 2
        return "\r\n".join(lines)

    received = "".join(
        f"Received: from mx{n}.example.org (mx{n}.example.org [192.0.2.{n}])\r\n"
        f"\tby in{n}.example.test (mail) with ESMTPS id 4ZxY{n}k3QpLz9\r\n"
        f"\tfor <alice@example.test>; Tue, 24 Nov 2026 10:0{n}:13 +0000 (UTC)\r\n"
        for n in range(1, 5)
    )
    signature = base64.b64encode(source.randbytes(256)).decode()
    head = (
        "Return-Path: <bob@example.org>\r\n" + received + "DKIM-Signature: v=1; a=rsa-sha256; "
        "c=relaxed/relaxed; d=example.org; s=m1;\r\n\th=from:to:subject:date:message-id;\r\n\tb="
        + "\r\n\t ".join(signature[n : n + 70] for n in range(0, len(signature), 70))
        + "\r\nDate: Tue, 24 Nov 2026 11:05:12 +0100\r\n"
        "From: =?utf-8?Q?Bob_M=C3=BCller?= <bob@example.org>\r\n"
        'To: "Alice, of Sales" <alice@example.test>, Carol <carol@example.test>\r\n'
        "Cc: team@example.test, Dave Jones <dave@example.test>\r\n"
        "Subject: Re: [team] =?utf-8?Q?Caf=C3=A9?= figures for the third quarter\r\n"
        "Message-ID: <20261124110512.4711@example.org>\r\n"
        "In-Reply-To: <20261123090000.42@example.test>\r\n"
        "References: <20261120080000.1@example.org>\r\n <20261123090000.42@example.test>\r\n"
        "List-Id: Team <team.example.test>\r\nList-Unsubscribe: <https://example.test/u?x=1>\r\n"
        "X-Mailer: Example 1.2\r\nMIME-Version: 1.0\r\n"
    )
    if size < 6_000:
        typed = "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
        return (head + typed + text(size - len(head))).encode()
    files = size > 100_000
    room = 24_000 if files else size - len(head) - 1_600
    markup = "<html><head><style>p { margin: 0 }</style></head><body>" + "".join(
        f'<p class="b">{line}</p>\r\n' for line in text(room * 6 // 10).split("\r\n")
    )
    alternative = (
        'Content-Type: multipart/alternative; boundary="=_alt_1"\r\n\r\n'
        "--=_alt_1\r\nContent-Type: text/plain; charset=utf-8\r\n"
        "Content-Transfer-Encoding: 8bit\r\n\r\n"
        f"{text(room * 3 // 10)}\r\n--=_alt_1\r\nContent-Type: text/html; charset=utf-8\r\n"
        "Content-Transfer-Encoding: quoted-printable\r\n\r\n"
        + quopri.encodestring(markup.encode()).decode()
        + "\r\n--=_alt_1--\r\n"
    )
    if not files:
        return (head + alternative).encode()
    attached = base64.encodebytes(source.randbytes((size - len(head) - room) * 54 // 76)).decode()
    return (
        head + 'Content-Type: multipart/mixed; boundary="=_mix_1"\r\n\r\n--=_mix_1\r\n'
        + alternative + "--=_mix_1\r\nContent-Type: application/pdf; name=figures.pdf\r\n"
        "Content-Disposition: attachment; filename*=utf-8''Umsatz%20%E2%82%AC.pdf\r\n"
        "Content-Transfer-Encoding: base64\r\n\r\n"
        + attached.replace("\n", "\r\n") + "--=_mix_1--\r\n"
    ).encode()  # fmt: skip


def cpu_ms(function: Callable[[bytes], object], raw: bytes, seconds: float) -> float:
    """Return the CPU time of one call: the least of five rounds, free of what others do."""
    function(raw)
    rounds = []
    for _ in range(5):
        calls, start = 0, time.process_time()
        while (spent := time.process_time() - start) < seconds / 5:
            function(raw)
            calls += 1
        rounds.append(spent / calls)
    return min(rounds) * 1000


def structure(raw: bytes) -> tuple[bytes, bytes]:
    found = parse(raw)
    return envelope(found), bodystructure(found)


def run(quick: bool) -> dict[str, object]:
    seconds = 0.25 if quick else 1.5
    compat = email.parser.BytesParser(policy=email.policy.compat32)
    default = email.parser.BytesParser(policy=email.policy.default)
    result: dict[str, object] = {"targets_ms": TARGETS_MS}
    for label, size in (("3k", 3_300), ("20k", 20_000), ("1m", 1_000_000)):
        raw = message(size)
        times = {
            "parse": cpu_ms(parse, raw, seconds),
            "structure": cpu_ms(structure, raw, seconds),
            "digest": cpu_ms(digest, raw, seconds),
            "stdlib_compat32": cpu_ms(compat.parsebytes, raw, seconds),
            "stdlib_default": cpu_ms(default.parsebytes, raw, seconds),
        }
        result[label] = {
            "octets": len(raw),
            **{f"{name}_ms": round(value, 4) for name, value in times.items()},
            "structure_times_faster_than_compat32": round(
                times["stdlib_compat32"] / times["structure"], 1
            ),
            "digest_times_faster_than_default": round(times["stdlib_default"] / times["digest"], 1),
        }
    return result


if __name__ == "__main__":
    print(json.dumps(run(quick=False), indent=2))
