"""Web push: messages that only the device can read (RFC 8291), signed by the server (RFC 8292).

Imported where it is needed: the library costs 10 MB of memory, and many servers tell no device.
"""

import struct
from collections.abc import Mapping
from typing import NamedTuple

import orjson
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from mailserver.jmap.protocol.push_keys import POINT, write_base64url

RECORD = 4096  # octets; there is one, and MAX_PLAINTEXT fit into it (RFC 8291 §4)
_DELIMITER = b"\x02"  # of the last record (RFC 8188 §2)
_INTEGER = 32  # octets of each half of a signature (RFC 7518 §3.4)


def is_point(data: bytes) -> bool:
    """Tell whether octets are an uncompressed point of P-256."""
    try:
        ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), data)
    except ValueError:
        return False
    return len(data) == POINT


def new_key() -> ec.EllipticCurvePrivateKey:
    """Return a key for one message; the library has no other source of randomness than its own."""
    return ec.generate_private_key(ec.SECP256R1())


def load_key(secret: bytes) -> ec.EllipticCurvePrivateKey:
    """Read a private key of P-256, PKCS #8."""
    key = serialization.load_der_private_key(secret, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key


def _point(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(
        serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
    )


def _hkdf(salt: bytes, secret: bytes, info: bytes, length: int) -> bytes:
    return HKDF(algorithm=hashes.SHA256(), length=length, salt=salt, info=info).derive(secret)


def encrypt(
    plaintext: bytes,
    *,
    p256dh: bytes,
    auth: bytes,
    salt: bytes,
    key: ec.EllipticCurvePrivateKey,
) -> bytes:
    """Return a message of `aes128gcm` for a device; salt and key are for this message alone."""
    device = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), p256dh)
    own = _point(key)
    # RFC 8291 §3.4
    shared = key.exchange(ec.ECDH(), device)
    secret = _hkdf(auth, shared, b"WebPush: info\0" + p256dh + own, 32)
    content_key = _hkdf(salt, secret, b"Content-Encoding: aes128gcm\0", 16)
    nonce = _hkdf(salt, secret, b"Content-Encoding: nonce\0", 12)
    header = salt + struct.pack("!IB", RECORD, len(own)) + own  # RFC 8188 §2.1
    return header + AESGCM(content_key).encrypt(nonce, plaintext + _DELIMITER, None)


class Claims(NamedTuple):
    """What the server says of itself to a push service (RFC 8292 §2)."""

    audience: str  # the origin of the push service
    expires: int  # seconds since 1970, at most a day away
    subject: str  # where the operator can be reached


class Vapid:
    """The server's name towards push services, which a device can make them insist on."""

    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        self._key = key
        self.application_server_key = write_base64url(_point(key))  # RFC 9749 §3

    def authorization(self, claims: Claims) -> str:
        """Return the value of an Authorization header (RFC 8292 §3)."""
        said = {"aud": claims.audience, "exp": claims.expires, "sub": claims.subject}
        text = f"{_part({'typ': 'JWT', 'alg': 'ES256'})}.{_part(said)}"
        signature = self._key.sign(text.encode("ascii"), ec.ECDSA(hashes.SHA256()))
        halves = (half.to_bytes(_INTEGER, "big") for half in decode_dss_signature(signature))
        token = f"{text}.{write_base64url(b''.join(halves))}"
        return f"vapid t={token}, k={self.application_server_key}"


def _part(value: Mapping[str, object]) -> str:
    return write_base64url(orjson.dumps(value))
