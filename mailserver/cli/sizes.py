"""Sizes as people write them."""

from mailserver.errors import Invalid

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def parse_size(text: str) -> int:
    """Return the bytes of `500M`, `10G` or `1048576`; units are powers of 1024."""
    number = text.strip().upper().removesuffix("IB").removesuffix("B")
    unit = number[-1:] if number[-1:].isalpha() else ""
    digits = number.removesuffix(unit).strip()
    if unit not in _UNITS or not (digits.isascii() and digits.isdigit()):
        raise Invalid(f"{text!r} is no size: write 500M or 10G")
    return int(digits) * _UNITS[unit]
