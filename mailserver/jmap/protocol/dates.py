"""Date and UTCDate (RFC 8620 §1.4)."""

import re
from datetime import UTC, datetime, timedelta, timezone
from functools import lru_cache

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_DATE = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.(\d+))?(?:(Z)|([+-])(\d\d):(\d\d))", re.ASCII
)


def render_utc(moment: datetime) -> str:
    """Show a moment in UTC, whole seconds: a fraction of zero must be left out."""
    moment = moment if moment.tzinfo is UTC else moment.astimezone(UTC)
    return moment.isoformat("T", "seconds")[:19] + "Z"


def render_stamp(microseconds: int) -> str:
    """Show microseconds since 1970 as `render_utc` shows a moment: a list has one in every line."""
    minutes, second = divmod(microseconds // 1_000_000, 60)
    return f"{_minute(minutes)}{second:02}Z"


@lru_cache(maxsize=4096)
def _minute(minutes: int) -> str:
    return (_EPOCH + timedelta(minutes=minutes)).isoformat("T", "minutes")[:16] + ":"


def parse_date(text: str) -> datetime | None:
    """Read a Date, with any offset, as the moment in UTC; None when it is not one."""
    found = parse_zoned(text)
    try:
        return None if found is None else found.astimezone(UTC)
    except OverflowError:
        return None


def parse_zoned(text: str) -> datetime | None:
    """Read a Date with its offset; None when it is not one."""
    found = _DATE.fullmatch(text)
    if found is None:
        return None
    *numbers, fraction, zulu, sign, hours, minutes = found.groups()
    microseconds = int((fraction or "")[:6].ljust(6, "0"))
    second = min(int(numbers[5]), 59)  # a leap second has no place in datetime
    try:
        offset = timedelta(0)
        if not zulu:
            offset = timedelta(hours=int(hours), minutes=int(minutes))
        zone = timezone(-offset if sign == "-" else offset)
        year, month, day, hour, minute = (int(number) for number in numbers[:5])
        return datetime(year, month, day, hour, minute, second, microseconds, zone)
    except (ValueError, OverflowError):
        return None


def parse_utc(text: str) -> datetime | None:
    """Read a UTCDate: a Date whose offset is `Z`."""
    return parse_date(text) if text.endswith("Z") else None
