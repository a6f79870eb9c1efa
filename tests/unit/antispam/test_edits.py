"""Changes of messages: what was asked for and nothing else, whatever the message is."""

from hypothesis import given
from hypothesis import strategies as st

from mailserver.antispam.edits import AddField, ChangeField, Edit, ReplaceBody, apply

RAW = b"Received: a\r\n\tb\r\nSubject: one\r\nsubject : two\r\n\r\nbody\r\n"


def test_fields_are_added_at_the_top_in_between_and_at_the_end() -> None:
    edits = (
        AddField(b"X-End", b"z"),
        AddField(b"X-Top", b"a", 0),
        AddField(b"X-Second", b"b", 1),
        AddField(b"X-Far", b"c", 99),
    )
    assert apply(RAW, edits) == (
        b"X-Top: a\r\nX-Second: b\r\nReceived: a\r\n\tb\r\nSubject: one\r\nsubject : two\r\n"
        b"X-End: z\r\nX-Far: c\r\n\r\nbody\r\n"
    )


def test_fields_are_changed_and_deleted_by_name_and_number() -> None:
    changed = apply(RAW, (ChangeField(b"SUBJECT", 2, b"three"), ChangeField(b"received", 1, b"")))
    assert changed == b"Subject: one\r\nSUBJECT: three\r\n\r\nbody\r\n"


def test_change_of_what_is_not_there_adds_it_and_deletion_does_nothing() -> None:
    changed = apply(RAW, (ChangeField(b"Subject", 3, b"x"), ChangeField(b"Nothing", 1, b"")))
    assert changed == RAW.replace(b"\r\n\r\n", b"\r\nSubject: x\r\n\r\n")


def test_body_is_replaced() -> None:
    assert apply(RAW, (ReplaceBody(b"other\r\n"),)) == RAW[:-6] + b"other\r\n"


def test_no_value_ends_the_header() -> None:
    edits = (AddField(b"X", b"a\n\nb\r\n\r\nc\rd\0e", 0), AddField(b"Y: \r\n\r\nz", b"v"))
    assert apply(RAW, edits) == b"X: a\r\n\tb\r\n\tc\r\n\tde\r\n" + RAW


def test_message_without_body_or_line_end() -> None:
    assert apply(b"A: b", (AddField(b"C", b"d"),)) == b"A: b\r\nC: d\r\n\r\n"
    assert apply(b"", (AddField(b"C", b"d"),)) == b"C: d\r\n\r\n"
    assert apply(b"\r\nx", (AddField(b"C", b"d"),)) == b"C: d\r\n\r\nx"


values = st.binary(max_size=30)
names = st.sampled_from([b"Subject", b"X-Spam", b"received", b"bad name", b""])
edits = st.lists(
    st.one_of(
        st.builds(AddField, names, values, st.none() | st.integers(0, 9)),
        st.builds(ChangeField, names, st.integers(-1, 4), values),
        st.builds(ReplaceBody, values),
    ),
    max_size=6,
)


@given(edits, st.integers(0, len(RAW)))
def test_body_stays_the_body(asked: list[Edit], cut: int) -> None:
    raw = RAW[: len(RAW) - cut] if cut < 7 else RAW
    bodies = [edit.body for edit in asked if isinstance(edit, ReplaceBody)]
    _, _, before = raw.partition(b"\r\n\r\n")
    _, _, after = apply(raw, asked).partition(b"\r\n\r\n")
    assert after == (bodies[-1] if bodies else before)
