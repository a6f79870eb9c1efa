"""Date fields of any shape (RFC 5322 §3.3, §4.3)."""

import re
from datetime import UTC, datetime, timedelta, timezone

_MONTHS = {
    name: number
    for number, name in enumerate(
        ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"), 1
    )
}
_ZONES = {  # hours; other names mean -0000 (RFC 5322 §4.3)
    "ut": 0, "utc": 0, "gmt": 0, "z": 0, "edt": -4, "est": -5, "cdt": -5, "cst": -6, "mdt": -6,
    "mst": -7, "pdt": -7, "pst": -8, "bst": 1, "cet": 1, "cest": 2, "eet": 2, "eest": 3, "msk": 3,
    "jst": 9,
}  # fmt: skip

_RFC = re.compile(
    r"(?:[A-Za-z]+\.?\s*+,?)?\s*+(\d{1,2})[ -]+([A-Za-z]{3})[a-z]*+[ ,.-]+(\d{2,4})[ ,]+"
    r"(\d{1,2})[:.](\d{1,2})(?:[:.](\d{1,2}))?(?:\.\d+)?\s*+([+-]\d{2}:?\d{2}|[A-Za-z]+)?"
)
_CTIME = re.compile(  # Mon Jul  1 12:00:00 [zone] 2002
    r"(?:[A-Za-z]+,?\s++)?([A-Za-z]{3})[a-z]*+\s++(\d{1,2}),?\s++"
    r"(\d{1,2}):(\d{2})(?::(\d{2}))?\s++(?:([A-Za-z]+|[+-]\d{4})\s++)?(\d{4})(?:\s++([+-]\d{4}))?"
)
_ISO = re.compile(
    r"(\d{4})-(\d{1,2})-(\d{1,2})(?:[T ]+(\d{1,2}):(\d{2})(?::(\d{2})(?:\.\d+)?)?)?"
    r"\s*+(Z|[+-]\d{2}:?\d{2})?"
)
_DAY_ONLY = re.compile(r"(?:[A-Za-z]+,?\s++)?(\d{1,2})[ -]+([A-Za-z]{3})[a-z]*+[ ,-]+(\d{2,4})\b")
_COMMENT = re.compile(r"\([^()]*+\)")
_LENGTH = 200  # no date is longer


def parse(value: str) -> datetime | None:
    """Return the date with its zone, None when there is no date in the text.

    An unknown or impossible zone counts as UTC (RFC 5256 §2.2).
    """
    text = value[:_LENGTH]
    if "(" in text:
        text = _COMMENT.sub(" ", text)
    text = text.strip()
    for pattern, order in _SHAPES:
        found = pattern.match(text)
        if found is not None:
            return _date(*(found[group] if group else None for group in order))
    return None


# For every shape: the groups of year, month, day, hour, minute, second, zone; 0 for none.
_SHAPES = (
    (_RFC, (3, 2, 1, 4, 5, 6, 7)),
    (_CTIME, (7, 1, 2, 3, 4, 5, 6)),
    (_ISO, (1, 2, 3, 4, 5, 6, 7)),
    (_DAY_ONLY, (3, 2, 1, 0, 0, 0, 0)),
)


def _date(  # a date has seven parts
    year: str | None,
    month: str | None,
    day: str | None,
    hour: str | None,
    minute: str | None,
    second: str | None,
    zone: str | None,
) -> datetime | None:
    month_number = int(month) if month and month.isdigit() else _MONTHS.get((month or "").lower())
    if month_number is None:
        return None
    try:
        return datetime(
            _year(year or ""), month_number, int(day or 0),
            int(hour or 0), int(minute or 0), min(int(second or 0), 59),  # 60 is a leap second
            tzinfo=_zone(zone),
        )  # fmt: skip
    except ValueError:
        return None


def _year(digits: str) -> int:
    """Two and three digits are of the last century or of this one (RFC 5322 §4.3)."""
    number = int(digits)
    if len(digits) == 2:
        return number + (2000 if number < 50 else 1900)
    return number + 1900 if len(digits) == 3 else number


def _zone(zone: str | None) -> timezone:
    if not zone:
        return UTC
    if zone[0] not in "+-":
        hours = _ZONES.get(zone.lower(), 0)
        return timezone(timedelta(hours=hours)) if hours else UTC
    digits = zone[1:].replace(":", "")
    minutes = int(digits[:2]) * 60 + int(digits[2:])
    if minutes == 0 or minutes >= 24 * 60 or int(digits[2:]) > 59:
        return UTC
    return timezone(timedelta(minutes=-minutes if zone[0] == "-" else minutes))


def utc(value: datetime | None) -> datetime | None:
    """Move a date to UTC; None for the hours at both ends of the calendar that have none."""
    if value is None:
        return None
    try:
        return value.astimezone(UTC)
    except OverflowError:
        return None


def json_text(value: datetime) -> str:
    """Return the form of JMAP's Date (RFC 8620 §1.4)."""
    text = value.isoformat()
    return text[:-6] + "Z" if text.endswith("+00:00") else text
