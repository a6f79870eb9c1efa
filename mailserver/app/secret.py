"""Passwords that are made for people."""

import secrets
import string

ALPHABET = string.ascii_letters + string.digits  # nothing that a shell or a URL reads otherwise
LENGTH = 20  # 119 bits


def make_password() -> str:
    """Return a new password that nobody can guess."""
    return "".join(secrets.choice(ALPHABET) for _ in range(LENGTH))
