"""Spans of time as people write them."""

from datetime import timedelta

from mailserver.errors import Invalid

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def parse_age(text: str) -> timedelta:
    """Return the span of `90s`, `30m`, `12h` or `5d`."""
    digits, unit = text.strip()[:-1], text.strip()[-1:].lower()
    if unit not in _UNITS or not (digits.isascii() and digits.isdigit()):
        raise Invalid(f"{text!r} is no span of time: write 30m, 12h or 5d")
    return timedelta(seconds=int(digits) * _UNITS[unit])
