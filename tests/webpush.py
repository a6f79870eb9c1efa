"""The device's side of web push, written from RFC 8188 and RFC 8291 for the tests."""

import struct

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat


def point(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return the public key as `p256dh` has it."""
    return key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def decrypt(message: bytes, key: ec.EllipticCurvePrivateKey, auth: bytes) -> bytes:
    """Return what was sent; fails when the message is not for this device."""
    salt = message[:16]
    record, length = struct.unpack("!IB", message[16:21])
    sender, sealed = message[21 : 21 + length], message[21 + length :]
    assert len(sealed) <= record
    shared = key.exchange(
        ec.ECDH(), ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), sender)
    )

    def derived(salted: bytes, secret: bytes, info: bytes, size: int) -> bytes:
        return HKDF(hashes.SHA256(), size, salted, info).derive(secret)

    secret = derived(auth, shared, b"WebPush: info\0" + point(key) + sender, 32)
    padded = AESGCM(derived(salt, secret, b"Content-Encoding: aes128gcm\0", 16)).decrypt(
        derived(salt, secret, b"Content-Encoding: nonce\0", 12), sealed, None
    )
    text, delimiter, padding = padded.rpartition(b"\x02")
    assert delimiter
    assert not padding.strip(b"\0")
    return text
