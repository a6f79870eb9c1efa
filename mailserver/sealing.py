"""Secrets in the database, sealed with the key of this server: AES-256-GCM.

A copy of the database alone opens none of them.
"""

import hashlib
import os

from mailserver.config import Secret
from mailserver.errors import ConfigurationError, Corrupt

_NONCE = 12  # octets
_VERSION = b"\x01"


class Seal:
    """Seals and opens with the key of the configuration."""

    def __init__(self, secret: Secret) -> None:
        self._secret = secret

    def _key(self) -> bytes:
        text = self._secret.current()
        if not text:
            raise ConfigurationError(
                "server.secret_key is not set: make one with `openssl rand -base64 32` and give the"
                " same to every process"
            )
        return hashlib.sha256(b"mailserver sealing\0" + text.encode()).digest()

    def seal(self, content: bytes, purpose: str) -> bytes:
        """Seal something; it opens for the same purpose only."""
        # the library costs 10 MB of memory, and most servers seal nothing
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        nonce = os.urandom(_NONCE)
        return _VERSION + nonce + AESGCM(self._key()).encrypt(nonce, content, purpose.encode())

    def open(self, sealed: bytes, purpose: str) -> bytes:
        """Return what was sealed; Corrupt when the key is another one or something was changed."""
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        nonce, content = sealed[1 : 1 + _NONCE], sealed[1 + _NONCE :]
        try:
            return AESGCM(self._key()).decrypt(nonce, content, purpose.encode())
        except (InvalidTag, ValueError):
            raise Corrupt("a sealed secret does not open with server.secret_key") from None
