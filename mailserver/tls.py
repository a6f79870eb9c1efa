"""TLS contexts, certificates that reload themselves, and the certificates of `mailserver dev`."""

import hashlib
import ipaddress
import logging
import os
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from mailserver.errors import ConfigurationError

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

log = logging.getLogger(__name__)

# Forward secrecy always (RFC 9325 §4.2). CBC stands last, for old peers on port 25 that would fall
# back to no encryption at all.
CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20:ECDHE+AES:!aNULL:!PSK"

# The hash of `tls-server-end-point` by the algorithm that signed the certificate, as its OID in DER
# (RFC 5929 §4.1). One that is not here, like Ed25519, has no such hash and no channel binding.
# Read by hand, for the library that reads certificates costs 10 MB of memory.
_SIGNATURE_HASHES = {
    bytes.fromhex("2a864886f70d010104"): "sha256",  # md5WithRSAEncryption: never weaker
    bytes.fromhex("2a864886f70d010105"): "sha256",  # sha1WithRSAEncryption
    bytes.fromhex("2a864886f70d01010b"): "sha256",  # sha256WithRSAEncryption
    bytes.fromhex("2a864886f70d01010c"): "sha384",
    bytes.fromhex("2a864886f70d01010d"): "sha512",
    bytes.fromhex("2a8648ce3d0401"): "sha256",  # ecdsa-with-SHA1
    bytes.fromhex("2a8648ce3d040302"): "sha256",  # ecdsa-with-SHA256
    bytes.fromhex("2a8648ce3d040303"): "sha384",
    bytes.fromhex("2a8648ce3d040304"): "sha512",
}

CA_LIFE = timedelta(days=3652)
LEAF_LIFE = timedelta(days=825)  # the most that Apple's clients accept
RENEW_BEFORE = timedelta(days=30)
BACKDATE = timedelta(hours=1)  # for clients whose clock is behind
DEVELOPMENT_NAMES = ("localhost", "127.0.0.1", "::1", "example.test", "mail.example.test")


class ServerContext(ssl.SSLContext):
    """A context for listeners that knows the channel binding of its certificate."""

    end_point: bytes | None = None  # the data of `tls-server-end-point`


def server_context(certificate: Path, key: Path, *, channel_binding: bool = False) -> ServerContext:
    """Return a context for listeners: TLS 1.2 and later; ConfigurationError when unusable."""
    context = ServerContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # RFC 8996
    context.set_ciphers(CIPHERS)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
    try:
        # The password is given so that OpenSSL does not ask for one at the terminal.
        context.load_cert_chain(certificate, key, password="")
        if channel_binding:
            context.end_point = _end_point(certificate.read_text("latin-1"))
    except (OSError, ValueError, IndexError) as error:  # ssl.SSLError is an OSError
        raise ConfigurationError(
            f"cannot use certificate {certificate} with key {key}: {error}"
        ) from error
    return context


def client_context(*, verify: bool) -> ssl.SSLContext:
    """Return a context for connections to other servers: TLS 1.2 and later.

    Without `verify` any certificate will do: encryption that nobody has agreed on beats none
    (RFC 7435).
    """
    if verify:
        context = ssl.create_default_context()
    else:  # authorities that are not asked need not be read
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # RFC 8996
    return context


def anchor_context(authority: bytes) -> ssl.SSLContext:
    """Return a context for one authority, in DER, that need not be at the top (RFC 7672 §3.1.2)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # RFC 8996
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.load_verify_locations(cadata=authority)
    return context


def end_point(connection: ssl.SSLObject | ssl.SSLSocket | None) -> bytes | None:
    """Return what `tls-server-end-point` binds to on this connection (RFC 5929 §4)."""
    context = connection.context if connection is not None else None
    return context.end_point if isinstance(context, ServerContext) else None


def expiry(certificate: Path) -> datetime | None:
    """Return when the first certificate of a PEM file ends, None when that cannot be read."""
    try:
        der = _first_certificate(certificate.read_text("latin-1"))
        if der is None:
            return None
        validity, _ = _element(der, _field(der, 3))  # after serialNumber, signature, issuer
        not_after = _element(der, validity)[1]
        text = der[slice(*_element(der, not_after))].decode("ascii")
        if der[not_after] == 0x17:  # UTCTime, with the years 1950 to 2049 (RFC 5280 §4.1.2.5.1)
            text = ("19" if text[:2] >= "50" else "20") + text
        return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)
    except (OSError, ValueError, IndexError):
        return None


def key_digest(certificate: Path) -> str | None:
    """Return the SHA-256 of the key of the first certificate of a PEM file, for TLSA `3 1 1`.

    None when it cannot be read.
    """
    try:
        der = _first_certificate(certificate.read_text("latin-1"))
        if der is None:
            return None
        start = _field(der, 5)  # after validity and subject: the subjectPublicKeyInfo
        return hashlib.sha256(der[start : _element(der, start)[1]]).hexdigest()
    except (OSError, ValueError, IndexError):
        return None


def _field(der: bytes, number: int) -> int:
    """Return where a field of a certificate begins, the version not counted (RFC 5280 §4.1)."""
    position, _ = _element(der, _element(der, 0)[0])
    if der[position] == 0xA0:  # the version is optional
        number += 1
    for _ in range(number):
        position = _element(der, position)[1]
    return position


def _first_certificate(chain: str) -> bytes | None:
    """Return the first certificate of a PEM file in DER."""
    start = chain.find(ssl.PEM_HEADER)
    if start < 0:  # OpenSSL also takes "TRUSTED CERTIFICATE", with more in it
        return None
    end = chain.index(ssl.PEM_FOOTER, start) + len(ssl.PEM_FOOTER)
    return ssl.PEM_cert_to_DER_cert(chain[start:end])


def _end_point(chain: str) -> bytes | None:
    """Return the hash of the first certificate of a PEM file, when one is defined for it."""
    der = _first_certificate(chain)
    if der is None:
        return None
    # Certificate ::= SEQUENCE { tbsCertificate, SEQUENCE { algorithm, ... }, ... } (RFC 5280 §4.1)
    signed, _ = _element(der, 0)
    _, algorithm = _element(der, signed)
    oid, _ = _element(der, algorithm)
    name = _SIGNATURE_HASHES.get(der[slice(*_element(der, oid))])
    return hashlib.new(name, der).digest() if name else None


def _element(der: bytes, position: int) -> tuple[int, int]:
    """Return where the contents of an element of DER begin and end."""
    length, start = der[position + 1], position + 2
    if length >= 0x80:
        octets = length & 0x7F
        length, start = int.from_bytes(der[start : start + octets]), start + octets
    return start, start + length


class Certificate:
    """A certificate and key in files, read again when the files change.

    `context` stays the same object for the life of the listeners; each new handshake gets the
    certificate that the files hold then. A change that cannot be used is logged, and the
    certificate before it stays in use.
    """

    def __init__(self, certificate: Path, key: Path, *, channel_binding: bool = False) -> None:
        """Read the files; ConfigurationError when they cannot be used."""
        self.certificate = certificate
        self.key = key
        self._channel_binding = channel_binding
        self._seen = self._look()
        self.context = self._read()
        self._current = self.context
        self.context.sni_callback = self._handshake

    def refresh(self) -> bool:
        """Read the files if they changed; return whether a new certificate is in use."""
        look = self._look()
        if look == self._seen:
            return False
        self._seen = look
        try:
            # A context of its own: loading into a live one could leave it with half of a pair.
            self._current = self._read()
        except ConfigurationError as error:
            log.error("certificate not reloaded", extra={"error": str(error)})
            return False
        log.info("certificate reloaded", extra={"path": str(self.certificate)})
        return True

    def _handshake(
        self, connection: ssl.SSLSocket | ssl.SSLObject, name: str | None, context: ssl.SSLContext
    ) -> None:
        """Give this connection the current certificate; Python calls it with and without SNI."""
        self.refresh()
        if self._current is not context:
            connection.context = self._current

    def _read(self) -> ServerContext:
        return server_context(self.certificate, self.key, channel_binding=self._channel_binding)

    def _look(self) -> tuple[tuple[int, int, int] | None, ...]:
        return tuple(_look(path) for path in (self.certificate, self.key))


def _look(path: Path) -> tuple[int, int, int] | None:
    try:
        facts = path.stat()
    except OSError:
        return None
    return facts.st_mtime_ns, facts.st_size, facts.st_ino


@dataclass(frozen=True, slots=True)
class DevelopmentFiles:
    """Where the development certificates are."""

    ca: Path
    certificate: Path  # the leaf, then the CA
    key: Path


@dataclass(frozen=True, slots=True)
class _Pair:
    certificate: "x509.Certificate"
    key: "ec.EllipticCurvePrivateKey"


def development_files(directory: Path) -> DevelopmentFiles:
    """Return where the development certificates of a folder are."""
    return DevelopmentFiles(
        directory / "ca.pem", directory / "server.pem", directory / "server.key"
    )


def make_development_ca(
    directory: Path, hostnames: Sequence[str], now: datetime, *, renew: timedelta = RENEW_BEFORE
) -> DevelopmentFiles:
    """Make a CA and a certificate for `hostnames` in `directory`, unless good ones are there.

    Names may be IP addresses. A certificate is made anew when less than `renew` is left at `now`
    (aware), when it does not name all of `hostnames` or does not fit its key; a new CA only when
    the old one is as bad, for people have told their clients to trust it.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    files = development_files(directory)
    ca_path, ca_key = files.ca, directory / "ca.key"
    authority = _load(ca_path, ca_key)
    if authority is None or authority.certificate.not_valid_after_utc - now < renew:
        authority = _issue_ca(now)
        _store(authority, ca_path, ca_key)
    leaf = _load(files.certificate, files.key)
    if leaf is None or not _is_good(leaf, authority, hostnames, now + renew):
        leaf = _issue_leaf(authority, hostnames, now)
        _store(leaf, files.certificate, files.key, chain=authority)
    return files


def _load(certificate: Path, key: Path) -> _Pair | None:
    """Read a pair; None when a file is missing, damaged, or not the other's counterpart."""
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    try:
        found = x509.load_pem_x509_certificate(certificate.read_bytes())
        secret = serialization.load_pem_private_key(key.read_bytes(), password=None)
    except (FileNotFoundError, ValueError):
        return None
    if not isinstance(secret, ec.EllipticCurvePrivateKey):
        return None
    return _Pair(found, secret) if found.public_key() == secret.public_key() else None


def _is_good(leaf: _Pair, authority: _Pair, hostnames: Sequence[str], until: datetime) -> bool:
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature

    try:
        leaf.certificate.verify_directly_issued_by(authority.certificate)
        names = leaf.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
        return False
    missing = {name for name in _names(hostnames) if name not in set(names.value)}
    return not missing and leaf.certificate.not_valid_after_utc >= until


def _names(hostnames: Sequence[str]) -> "list[x509.GeneralName]":
    from cryptography import x509

    found: list[x509.GeneralName] = []
    for name in hostnames:
        try:
            found.append(x509.IPAddress(ipaddress.ip_address(name)))
        except ValueError:
            found.append(x509.DNSName(name))
    return found


def _issue_ca(now: datetime) -> _Pair:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    subject = _subject(f"mailserver development CA {now:%Y-%m-%d}")
    builder = _builder(subject, subject, key, now, now + CA_LIFE)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_key_usage(ca=True), critical=True)
    return _Pair(builder.sign(key, hashes.SHA256()), key)


def _issue_leaf(authority: _Pair, hostnames: Sequence[str], now: datetime) -> _Pair:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID

    key = ec.generate_private_key(ec.SECP256R1())
    issuer = authority.certificate
    until = min(now + LEAF_LIFE, issuer.not_valid_after_utc)
    builder = _builder(_subject("mailserver development"), issuer.subject, key, now, until)
    issuer_key = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key())
    for extension, critical in (
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (_key_usage(ca=False), True),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
        (x509.SubjectAlternativeName(_names(hostnames)), False),
        (issuer_key, False),
    ):
        builder = builder.add_extension(extension, critical=critical)
    return _Pair(builder.sign(authority.key, hashes.SHA256()), key)


def _subject(common_name: str) -> "x509.Name":
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _builder(
    subject: "x509.Name",
    issuer: "x509.Name",
    key: "ec.EllipticCurvePrivateKey",
    now: datetime,
    until: datetime,
) -> "x509.CertificateBuilder":
    from cryptography import x509

    public = key.public_key()
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATE)
        .not_valid_after(until)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _key_usage(*, ca: bool) -> "x509.KeyUsage":
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=not ca,
        key_cert_sign=ca,
        crl_sign=ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _store(pair: _Pair, certificate: Path, key: Path, *, chain: _Pair | None = None) -> None:
    """Write the key, then the certificate: whoever dies in between leaves a pair that is remade."""
    from cryptography.hazmat.primitives import serialization

    pem = serialization.Encoding.PEM
    secret = pair.key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = pair.certificate.public_bytes(pem)
    if chain is not None:
        public += chain.certificate.public_bytes(pem)
    for path, data in ((key, secret), (certificate, public)):
        new = path.with_name(path.name + ".new")
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
