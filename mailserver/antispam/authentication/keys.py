"""Public keys of signatures, as DNS has them (RFC 6376 §3.6, RFC 8301, RFC 8463)."""

import base64
import binascii
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa

from mailserver.antispam.authentication.lookups import Lookups
from mailserver.antispam.authentication.tags import Malformed, parse_tags, unspaced

LEAST_BITS = 1024  # RFC 8301 §3.2: less is not valid
GOOD_BITS = 2048  # less is weak
MOST_BITS = 8192  # more costs time that nobody needs to spend
MOST_EXPONENT = 32  # bits of the public exponent, for the same reason; 65537 is what keys have
MAX_KEYS = 4  # records of one name that are tried
ALGORITHMS = {"rsa-sha256": "rsa", "ed25519-sha256": "ed25519"}  # and the `k=` of their keys


class Refused(Malformed):
    """The key is what the RFC says, but too weak or not meant for this."""


@dataclass(frozen=True, slots=True)
class Key:
    """One public key."""

    kind: str  # "rsa" or "ed25519"
    public: rsa.RSAPublicKey | ed25519.Ed25519PublicKey
    bits: int
    flags: frozenset[str]  # `t=`

    def verifies(self, signature: bytes, octets: bytes) -> bool:
        """Tell whether the signature over the octets was made with this key's other half."""
        try:
            if isinstance(self.public, rsa.RSAPublicKey):
                self.public.verify(signature, octets, padding.PKCS1v15(), hashes.SHA256())
            else:  # RFC 8463 §3: the hash is what is signed
                digest = hashes.Hash(hashes.SHA256())
                digest.update(octets)
                self.public.verify(signature, digest.finalize())
        except (InvalidSignature, ValueError):
            return False
        return True


async def find_keys(resolver: Lookups, selector: str, domain: str, algorithm: str) -> list[Key]:
    """Return the keys that a signature may be of; LookupFailed, Malformed, Refused."""
    texts = await resolver.texts(f"{selector}._domainkey.{domain}", "TXT")
    if not texts:
        raise Malformed("there is no key in DNS")
    found: list[Key] = []
    wrong: Malformed | None = None
    for text in texts[:MAX_KEYS]:
        try:
            found.append(read_key(text, algorithm))
        except Malformed as error:
            wrong = wrong or error
    if not found and wrong is not None:
        raise wrong
    return found


def read_key(record: str, algorithm: str) -> Key:
    """Read a key record for an algorithm; Malformed or Refused when it has none for that."""
    tags = parse_tags(record)
    if tags.get("v", "DKIM1") != "DKIM1" or ("v" in tags and next(iter(tags)) != "v"):
        raise Malformed("the key is of another version")
    kind = tags.get("k", "rsa")
    if kind != ALGORITHMS[algorithm]:
        raise Malformed("the key is for another algorithm")
    if "h" in tags and "sha256" not in _words(tags["h"]):
        raise Refused("the key is not for SHA-256")
    if not _words(tags.get("s", "*")) & {"*", "email"}:
        raise Refused("the key is not for mail")
    if "p" not in tags:
        raise Malformed("the key has no p=")
    if not unspaced(tags["p"]):
        raise Refused("the key was revoked")
    public, bits = _load(kind, unspaced(tags["p"]))
    return Key(kind, public, bits, frozenset(_words(tags.get("t", ""))))


def _words(value: str) -> set[str]:
    return {word.strip().lower() for word in unspaced(value).split(":")}


def _load(kind: str, text: str) -> tuple[rsa.RSAPublicKey | ed25519.Ed25519PublicKey, int]:
    try:
        octets = base64.b64decode(text, validate=True)
        if kind == "ed25519":
            return ed25519.Ed25519PublicKey.from_public_bytes(octets), 256
        # usually SubjectPublicKeyInfo, sometimes the RSAPublicKey alone; both are read
        public = serialization.load_der_public_key(octets)
    except (binascii.Error, ValueError, UnsupportedAlgorithm):
        raise Malformed("the key cannot be read") from None
    if not isinstance(public, rsa.RSAPublicKey):
        raise Malformed("the key is for another algorithm")
    bits = public.key_size
    if not LEAST_BITS <= bits <= MOST_BITS:
        raise Refused(f"a key of {bits} bits is not accepted")
    if public.public_numbers().e.bit_length() > MOST_EXPONENT:
        raise Refused("a key with such a public exponent is not accepted")
    return public, bits
