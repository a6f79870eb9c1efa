"""Ids, blob ids and dates as JMAP writes them."""

import re
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailserver.jmap.protocol.dates import parse_date, parse_utc, render_stamp, render_utc
from mailserver.jmap.protocol.ids import (
    BlobName,
    Slice,
    blob_text,
    email_text,
    parse_blob,
    part_text,
)
from mailserver.model import BlobId, IdKind, id_value

ID = re.compile(r"[A-Za-z0-9_-]{1,255}")  # RFC 8620 §1.2
HASHES = st.binary(min_size=32, max_size=32).map(BlobId)
PLACES = st.integers(0, 10**11)


@given(st.integers(0, 2**63 - 1))
def test_ids_come_back(value: int) -> None:
    assert ID.fullmatch(email_text(value))
    assert id_value(IdKind.EMAIL, email_text(value)) == value
    assert id_value(IdKind.THREAD, email_text(value)) is None


@given(HASHES, st.sampled_from(["base64", "quoted-printable", "x-uuencode", "binary"]),
       PLACES, PLACES)  # fmt: skip
def test_blob_ids_come_back(blob: BlobId, encoding: str, start: int, length: int) -> None:
    assert parse_blob(blob_text(blob)) == BlobName(blob, None)
    text = part_text(blob, encoding, start, start + length)
    assert ID.fullmatch(text)
    assert parse_blob(text) == BlobName(blob, Slice(encoding, start, length))


def test_unknown_encodings_are_none() -> None:
    name = parse_blob(part_text(bytes(32), "x-strange", 1, 2))
    assert name is not None
    assert name.part == Slice("binary", 1, 1)


@settings(max_examples=200)
@given(
    HASHES.map(lambda blob: part_text(blob, "base64", 10, 20)).flatmap(
        lambda text: st.tuples(
            st.just(text), st.integers(0, len(text)), st.text("0-b9aG.", max_size=2)
        )
    )
)
def test_changed_blob_ids_are_refused_or_whole(case: tuple[str, int, str]) -> None:
    text, at, inserted = case
    for changed in (text[:at], text[:at] + inserted + text[at:], text[:at] + text[at + 1 :]):
        name = parse_blob(changed)
        if name is not None and name.part is not None:
            assert name.part.start >= 0
            assert name.part.length >= 0


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2014-10-30T14:12:00+08:00", datetime(2014, 10, 30, 6, 12, tzinfo=UTC)),  # RFC 8620 §1.4
        ("2014-10-30T06:12:00Z", datetime(2014, 10, 30, 6, 12, tzinfo=UTC)),
        ("2014-10-30T06:12:00.25Z", datetime(2014, 10, 30, 6, 12, 0, 250000, tzinfo=UTC)),
        ("2016-12-31T23:59:60Z", datetime(2016, 12, 31, 23, 59, 59, tzinfo=UTC)),
        ("2014-10-30T06:12:00", None), ("2014-10-30", None), ("2014-13-30T06:12:00Z", None),
        ("2014-10-30T06:12:00z", None), ("0001-01-01T00:00:00+23:59", None), ("", None),
        ("2014-10-30T06:12:00+99:99", None), ("٢014-10-30T06:12:00Z", None),
    ],
)  # fmt: skip
def test_dates(text: str, moment: datetime | None) -> None:
    assert parse_date(text) == moment


def test_a_utc_date_ends_with_z() -> None:
    assert parse_utc("2014-10-30T14:12:00+00:00") is None
    assert parse_utc("2014-10-30T14:12:00Z") == datetime(2014, 10, 30, 14, 12, tzinfo=UTC)


@given(
    st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 29)),  # noqa: DTZ001
    st.integers(-1439, 1439),
)
def test_rendered_dates_are_utc_dates(moment: datetime, minutes: int) -> None:
    aware = moment.replace(microsecond=0, tzinfo=timezone(timedelta(minutes=minutes)))
    assert parse_utc(render_utc(aware)) == aware


@given(st.datetimes(datetime(1900, 1, 1), datetime(9999, 12, 29)))  # noqa: DTZ001
def test_stamps_are_rendered_as_moments_are(moment: datetime) -> None:
    aware = moment.replace(tzinfo=UTC)
    since = aware - datetime(1970, 1, 1, tzinfo=UTC)
    assert render_stamp(since // timedelta(microseconds=1)) == render_utc(aware)
