"""The key that signs messages to push services (RFC 9749): one for all processes, for good.

What is stored is the public key, a point, and behind it the private one, PKCS #8: the session shows
the former without a library that could use the latter.
"""

from typing import TYPE_CHECKING

from mailserver.jmap.protocol.push_keys import POINT, write_base64url
from mailserver.mail import push
from mailserver.mail.context import Mail

if TYPE_CHECKING:
    from mailserver.jmap.protocol.webpush import Vapid


class ServerKey:
    """The key as it is stored."""

    def __init__(self, stored: bytes) -> None:
        self._stored = stored
        self._signer: Vapid | None = None

    @property
    def shown(self) -> str:
        """The public key, as the session object shows it."""
        return write_base64url(self._stored[:POINT])

    def signer(self) -> "Vapid":
        """Return what signs with the private key."""
        if self._signer is None:
            from mailserver.jmap.protocol.webpush import Vapid, load_key

            self._signer = Vapid(load_key(self._stored[POINT:]))
        return self._signer


async def load(mail: Mail) -> ServerKey:
    """Return the server's key; whoever asks first makes it."""
    return ServerKey(await push.vapid_key(mail, _fresh))


def _fresh() -> bytes:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    point = key.public_key().public_bytes(
        serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
    )
    return point + key.private_bytes(
        serialization.Encoding.DER,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
