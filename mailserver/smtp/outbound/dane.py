"""Certificates checked by TLSA records in signed DNS (RFC 7672, RFC 6698)."""

import hashlib
from collections.abc import Callable, Sequence

from mailserver.dns import TlsaRecord

DANE_TA, DANE_EE = 2, 3  # the usages that count for SMTP (RFC 7672 §3.1)
_DIGESTS: dict[int, Callable[[bytes], bytes]] = {
    0: lambda data: data,
    1: lambda data: hashlib.sha256(data).digest(),
    2: lambda data: hashlib.sha512(data).digest(),
}


def usable(records: Sequence[TlsaRecord]) -> list[TlsaRecord]:
    """Return the records that can be checked; the others are ignored (RFC 7672 §3.1)."""
    return [
        record
        for record in records
        if record.usage in (DANE_TA, DANE_EE)
        and record.selector in (0, 1)
        and record.matching in _DIGESTS
    ]


def fits_leaf(chain: Sequence[bytes], records: Sequence[TlsaRecord]) -> bool:
    """Tell whether the certificate itself is named; nothing else of it counts then (§3.1.1)."""
    return bool(chain) and any(
        record.usage == DANE_EE and _fits(chain[0], record) for record in records
    )


def anchor(chain: Sequence[bytes], records: Sequence[TlsaRecord]) -> bytes | None:
    """Return the authority of the chain that is named, for the check of all below it (§3.1.2)."""
    for certificate in chain:
        if any(record.usage == DANE_TA and _fits(certificate, record) for record in records):
            return certificate
    return None


def _fits(certificate: bytes, record: TlsaRecord) -> bool:
    data = certificate if record.selector == 0 else _public_key(certificate)
    return data is not None and _DIGESTS[record.matching](data) == record.data


def _public_key(certificate: bytes) -> bytes | None:
    """Return the SubjectPublicKeyInfo of a certificate in DER; None when it cannot be read."""
    # the library costs 10 MB of memory: few servers ever talk to a host with TLSA records
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    try:
        key = x509.load_der_x509_certificate(certificate).public_key()
    except (ValueError, UnsupportedAlgorithm):
        return None
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
