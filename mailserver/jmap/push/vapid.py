"""The key that signs messages to push services (RFC 9749): one for all processes, for good."""

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from mailserver.jmap.protocol.webpush import Vapid, load_key
from mailserver.mail import push
from mailserver.mail.context import Mail


async def load(mail: Mail) -> Vapid:
    """Return the server's key; whoever asks first makes it."""
    return Vapid(load_key(await push.vapid_key(mail, _fresh())))


def _fresh() -> bytes:
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.DER,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
