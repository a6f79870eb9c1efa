"""How the keys of web push are written, without what it takes to use them."""

import base64

SALT = 16  # octets
AUTH = 16  # octets of an authentication secret
POINT = 65  # octets of an uncompressed point of P-256
MAX_PLAINTEXT = 3993  # octets that fit into one message (RFC 8291 §4)


def write_base64url(data: bytes) -> str:
    """Write URL-safe base64 without padding, as the Push API takes it."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def read_base64url(text: str) -> bytes | None:
    """Read URL-safe base64, padded or not; None when it is none."""
    try:
        data = base64.b64decode(text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4), b"-_", True)
    except ValueError:
        return None
    return data
