"""TLS contexts, reload, and the development certificates, over memory instead of sockets."""

import contextlib
import hashlib
import logging
import os
import ssl
import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import asymmetric, hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from mailserver.errors import ConfigurationError
from mailserver.tls import (
    DEVELOPMENT_NAMES,
    Certificate,
    DevelopmentFiles,
    end_point,
    expiry,
    make_development_ca,
    server_context,
)

NOW = datetime.now(UTC).replace(microsecond=0)


def make(
    directory: Path, now: datetime = NOW, names: tuple[str, ...] = DEVELOPMENT_NAMES
) -> DevelopmentFiles:
    return make_development_ca(directory, names, now)


def handshake(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> ssl.SSLObject:
    """Shake hands over memory; return the client's side."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = client.wrap_bio(to_client, to_server, server_hostname=name)
    theirs = server.wrap_bio(to_server, to_client, server_side=True)
    waiting = [ours, theirs]
    for _ in range(10):
        for side in list(waiting):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            waiting.remove(side)
        if not waiting:
            return ours
    raise AssertionError("the handshake does not end")


def trusting(files: DevelopmentFiles) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(files.ca))


def serial(path: Path) -> int:
    return x509.load_pem_x509_certificate(path.read_bytes()).serial_number


def presented(server: ssl.SSLContext, files: DevelopmentFiles) -> int:
    der = handshake(server, trusting(files), "localhost").getpeercert(binary_form=True)
    assert der is not None
    return x509.load_der_x509_certificate(der).serial_number


@pytest.mark.parametrize("name", DEVELOPMENT_NAMES)
def test_a_client_that_trusts_the_ca_accepts_every_name(tmp_path: Path, name: str) -> None:
    files = make(tmp_path)
    handshake(server_context(files.certificate, files.key), trusting(files), name)


def test_a_name_that_was_not_asked_for_is_refused(tmp_path: Path) -> None:
    files = make(tmp_path)
    with pytest.raises(ssl.SSLCertVerificationError, match="match"):
        handshake(server_context(files.certificate, files.key), trusting(files), "example.org")


def test_a_client_that_does_not_trust_the_ca_refuses(tmp_path: Path) -> None:
    files, other = make(tmp_path / "a"), make(tmp_path / "b")
    with pytest.raises(ssl.SSLCertVerificationError, match=r"self-signed|unable to get"):
        handshake(server_context(files.certificate, files.key), trusting(other), "localhost")


def test_old_protocol_versions_are_refused(tmp_path: Path) -> None:
    files = make(tmp_path)
    server = server_context(files.certificate, files.key)
    assert server.minimum_version == ssl.TLSVersion.TLSv1_2
    assert server.options & ssl.OP_NO_COMPRESSION
    weak = [
        c["name"] for c in server.get_ciphers() if c["aead"] is False and "ECDHE" not in c["name"]
    ]
    assert not weak


def test_tls_1_2_works(tmp_path: Path) -> None:
    files = make(tmp_path)
    client = trusting(files)
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    ours = handshake(server_context(files.certificate, files.key), client, "localhost")
    assert ours.version() == "TLSv1.2"
    assert "GCM" in (ours.cipher() or ("",))[0]


def test_files_are_private_and_kept(tmp_path: Path) -> None:
    directory = tmp_path / "tls"
    before = os.umask(0)
    try:
        files = make(directory)
    finally:
        os.umask(before)
    for path in directory.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    content = {path.name: path.read_bytes() for path in directory.iterdir()}
    assert set(content) == {"ca.pem", "ca.key", "server.pem", "server.key"}
    assert make(directory) == files
    assert {path.name: path.read_bytes() for path in directory.iterdir()} == content


def test_lifetimes(tmp_path: Path) -> None:
    files = make(tmp_path)
    leaf = x509.load_pem_x509_certificate(files.certificate.read_bytes())
    authority = x509.load_pem_x509_certificate(files.ca.read_bytes())
    assert leaf.not_valid_after_utc - NOW == timedelta(days=825)
    assert authority.not_valid_after_utc - NOW == timedelta(days=3652)
    assert leaf.not_valid_before_utc < NOW


@pytest.mark.parametrize(
    ("days", "renewed"), [(794, False), (795, False), (796, True), (900, True)]
)
def test_the_leaf_is_renewed_when_less_than_30_days_are_left(
    tmp_path: Path, days: int, renewed: bool
) -> None:
    files = make(tmp_path)
    authority, leaf = serial(files.ca), serial(files.certificate)
    make(tmp_path, NOW + timedelta(days=days))
    assert (serial(files.certificate) != leaf) is renewed
    assert serial(files.ca) == authority


def test_near_the_end_of_the_ca_both_are_made_anew(tmp_path: Path) -> None:
    files = make(tmp_path)
    authority, leaf = serial(files.ca), serial(files.certificate)
    make(tmp_path, NOW + timedelta(days=3640))
    assert serial(files.ca) != authority
    assert serial(files.certificate) != leaf


def test_no_leaf_outlives_its_ca(tmp_path: Path) -> None:
    files = make(tmp_path)
    make(tmp_path, NOW + timedelta(days=3400))
    leaf = x509.load_pem_x509_certificate(files.certificate.read_bytes())
    authority = x509.load_pem_x509_certificate(files.ca.read_bytes())
    assert leaf.not_valid_after_utc == authority.not_valid_after_utc


def test_another_host_name_makes_a_new_leaf_under_the_same_ca(tmp_path: Path) -> None:
    files = make(tmp_path)
    authority, leaf = serial(files.ca), serial(files.certificate)
    make(tmp_path, names=(*DEVELOPMENT_NAMES, "imap.example.test"))
    assert serial(files.ca) == authority
    assert serial(files.certificate) != leaf
    handshake(server_context(files.certificate, files.key), trusting(files), "imap.example.test")


@pytest.mark.parametrize("name", ["ca.pem", "ca.key", "server.pem", "server.key"])
@pytest.mark.parametrize("damage", [b"", b"-----BEGIN CERTIFICATE-----\nAAAA\n", None])
def test_a_damaged_or_missing_file_is_made_again(
    tmp_path: Path, name: str, damage: bytes | None
) -> None:
    files = make(tmp_path)
    if damage is None:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_bytes(damage)
    make(tmp_path)
    handshake(server_context(files.certificate, files.key), trusting(files), "localhost")


def test_a_certificate_whose_key_is_another_is_made_again(tmp_path: Path) -> None:
    files, other = make(tmp_path / "a"), make(tmp_path / "b")
    files.key.write_bytes(other.key.read_bytes())
    make(tmp_path / "a")
    handshake(server_context(files.certificate, files.key), trusting(files), "localhost")


def test_a_context_names_the_files_it_cannot_use(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"none\.pem"):
        server_context(tmp_path / "none.pem", tmp_path / "none.key")
    files, other = make(tmp_path / "a"), make(tmp_path / "b")
    with pytest.raises(ConfigurationError, match="mismatch"):
        server_context(files.certificate, other.key)


def test_new_handshakes_get_the_new_certificate(tmp_path: Path) -> None:
    files = make(tmp_path, NOW - timedelta(days=800))
    held = Certificate(files.certificate, files.key)
    first = presented(held.context, files)
    assert first == serial(files.certificate)
    assert held.refresh() is False
    make(tmp_path)  # less than 30 days were left
    second = presented(held.context, files)
    assert first != second == serial(files.certificate)
    assert held.refresh() is False
    make(tmp_path, names=("localhost", "imap.example.test"))
    assert held.refresh() is True
    assert second != presented(held.context, files) == serial(files.certificate)


def test_an_unusable_change_is_logged_once_and_the_old_certificate_serves(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files, other = make(tmp_path / "a"), make(tmp_path / "b")
    held = Certificate(files.certificate, files.key)
    first = serial(files.certificate)
    good = files.key.read_bytes()
    files.key.write_bytes(other.key.read_bytes())
    with caplog.at_level(logging.INFO, "mailserver.tls"):
        assert presented(held.context, files) == first
        assert presented(held.context, files) == first
        assert [record.message for record in caplog.records] == ["certificate not reloaded"]
        files.key.unlink()
        assert presented(held.context, files) == first
        files.key.write_bytes(good)
        assert held.refresh() is True


def test_cryptography_is_loaded_only_to_make_certificates() -> None:
    code = "import sys, mailserver.tls; sys.exit('cryptography' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def issue(
    folder: Path,
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey,
    algorithm: hashes.SHA256 | hashes.SHA384 | hashes.SHA512 | None,
    padding: asymmetric.padding.PSS | None = None,
) -> DevelopmentFiles:
    """Store a certificate signed by its own key, with that algorithm."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW - timedelta(days=1))
        .not_valid_after(NOW + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, algorithm, rsa_padding=padding)
    )
    files = DevelopmentFiles(folder / "c.pem", folder / "c.pem", folder / "c.key")
    pem = serialization.Encoding.PEM
    files.certificate.write_bytes(b"a chain\n" + certificate.public_bytes(pem))
    files.key.write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return files


@pytest.mark.parametrize("algorithm", [hashes.SHA256(), hashes.SHA384(), hashes.SHA512()])
@pytest.mark.parametrize(
    "key", [ec.generate_private_key(ec.SECP256R1()), rsa.generate_private_key(65537, 2048)]
)
def test_the_channel_binding_is_a_hash_of_the_certificate(
    tmp_path: Path,
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey,
    algorithm: hashes.SHA256 | hashes.SHA384 | hashes.SHA512,
) -> None:
    files = issue(tmp_path, key, algorithm)
    certificate = x509.load_pem_x509_certificate(files.certificate.read_bytes())
    expected = certificate.fingerprint(algorithm)
    assert server_context(files.certificate, files.key, channel_binding=True).end_point == expected


def test_no_channel_binding_where_none_is_defined(tmp_path: Path) -> None:
    files = issue(tmp_path, ed25519.Ed25519PrivateKey.generate(), None)
    assert server_context(files.certificate, files.key, channel_binding=True).end_point is None
    pss = asymmetric.padding.PSS(asymmetric.padding.MGF1(hashes.SHA256()), 32)
    files = issue(tmp_path, rsa.generate_private_key(65537, 2048), hashes.SHA256(), pss)
    assert server_context(files.certificate, files.key, channel_binding=True).end_point is None
    assert end_point(None) is None


def test_the_channel_binding_follows_the_certificate(tmp_path: Path) -> None:
    files = make(tmp_path)
    live = Certificate(files.certificate, files.key, channel_binding=True)

    def binding() -> tuple[bytes | None, bytes]:
        to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
        ours = trusting(files).wrap_bio(to_client, to_server, server_hostname="localhost")
        theirs = live.context.wrap_bio(to_server, to_client, server_side=True)
        for side in (ours, theirs, ours):
            with contextlib.suppress(ssl.SSLWantReadError):
                side.do_handshake()
        der = ours.getpeercert(binary_form=True)
        assert der is not None
        return end_point(theirs), hashlib.sha256(der).digest()

    before, seen = binding()
    assert before == seen
    make(tmp_path, names=("localhost", "other.example.test"))
    after, seen = binding()
    assert after == seen != before


def test_when_a_certificate_ends(tmp_path: Path) -> None:
    files = make(tmp_path)
    found = x509.load_pem_x509_certificate(files.certificate.read_bytes())
    assert expiry(files.certificate) == found.not_valid_after_utc
    assert expiry(tmp_path / "missing.pem") is None
    (tmp_path / "other.pem").write_text("no certificate")
    assert expiry(tmp_path / "other.pem") is None
    pem = files.certificate.read_text()
    (tmp_path / "cut.pem").write_text(pem[:200] + pem[pem.index("-----END") :])
    assert expiry(tmp_path / "cut.pem") is None


@pytest.mark.parametrize("year", [2049, 2051])  # UTCTime and GeneralizedTime
def test_both_ways_to_write_when_it_ends(tmp_path: Path, year: int) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, "x")])
    end = datetime(year, 2, 3, 4, 5, 6, tzinfo=UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, NOW, end)
    pem = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    (tmp_path / "it.pem").write_bytes(pem)
    assert expiry(tmp_path / "it.pem") == end
