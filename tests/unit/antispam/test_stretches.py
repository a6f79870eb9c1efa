"""Headers in pieces."""

from hypothesis import given
from hypothesis import strategies as st

from mailserver.antispam import fields, stretches
from mailserver.antispam.authentication.headers import without_forged

LINES = st.lists(
    st.sampled_from(
        [
            b"Subject: x\r\n",
            b" goes on\r\n",
            b"\tX-Spam-Flag: YES\r\n",
            b"X-Spam-Flag: YES\r\n",
            b"Authentication-Results: mx.test; spf=pass\r\n",
            b"Authentication-Results: other.test; spf=pass\r\n",
            b"Authentication-Results:\r\n",
            b"X-Long: " + b"x" * 90 + b"\r\n",
            b"\n",
            b"bare\n",
        ]
    ),
    max_size=40,
).map(b"".join)


@given(LINES)
def test_pieces_make_the_whole_and_end_where_fields_do(raw: bytes) -> None:
    pieces = list(small(raw))
    assert b"".join(raw[start:stop] for start, stop in pieces) == raw
    for _, stop in pieces[:-1]:
        assert raw[stop - 1 : stop] == b"\n"
        assert raw[stop : stop + 1] not in (b" ", b"\t")


def small(raw: bytes) -> list[tuple[int, int]]:
    return list(stretches.stretches(raw, len(raw), 50))


@given(LINES)
def test_what_claims_to_be_ours_goes_wherever_a_piece_ends(raw: bytes) -> None:
    message = b"Received: x\r\n" * 6000 + raw + b"\r\nbody\r\n"  # beyond the first piece
    at = len(message) - len(raw) - 8
    assert message[:at] + fields.without_forged(b"A: b\r\n" + message[at:])[6:] == (
        fields.without_forged(message)
    )
    assert message[:at] + without_forged(b"A: b\r\n" + message[at:], ["mx.test"])[6:] == (
        without_forged(message, ["mx.test"])
    )
