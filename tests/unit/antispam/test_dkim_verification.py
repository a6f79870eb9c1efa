"""DKIM signatures of RFCs, dkimpy, opendkim and our own, and every way to break one."""

import base64
import hashlib
import re
import shutil
import subprocess
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import dkim as dkimpy
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from hypothesis import given
from hypothesis import strategies as st

from mailserver.antispam.authentication.content import Content
from mailserver.antispam.authentication.dkim import MAX_SIGNATURES, check_dkim
from mailserver.antispam.authentication.results import Signature
from mailserver.mime import dkim as signing
from tests.zone import Zone

DATA = Path(__file__).parents[2] / "data" / "dkim"
NOW = datetime(2018, 6, 11, tzinfo=UTC)
RFC_RSA = (
    "v=DKIM1; k=rsa; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDkHlOQoBTzWR"
    "iGs5V6NpP3idY6Wk08a5qhdR6wy5bdOKb2jLQiY/J16JYi0Qvx/byYzCNb3W91y3FutAC"
    "DfzwQ/BC/e/8uBsCR+yz1Lxj+PL6lHvqMKrM3rG4hstT5QjvHO9PzoxZyVYLzBfO2EeC3"
    "Ip3G+2kryOTIKT+l/K4w3QIDAQAB"
)
RFC_ZONE = {
    ("brisbane._domainkey.football.example.com", "TXT"): [
        "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
    ],
    ("test._domainkey.football.example.com", "TXT"): [RFC_RSA],
    ("sed._domainkey.test.ex", "TXT"): [
        "v=DKIM1; k=ed25519; p=sPs07Vu29FpHT/80UXUcYHFOHifD4o2ZlP2+XUh9g6E="
    ],
}
RFC_8463 = b"""\
DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed;
 d=football.example.com; i=@football.example.com;
 q=dns/txt; s=brisbane; t=1528637909; h=from : to :
 subject : date : message-id : from : subject : date;
 bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;
 b=/gCrinpcQOoIfuHNQIbq4pgh9kyIK3AQUdt9OdqQehSwhEIug4D11Bus
 Fa3bT3FY5OsU7ZbnKELq+eXdp1Q1Dw==
DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed;
 d=football.example.com; i=@football.example.com;
 q=dns/txt; s=test; t=1528637909; h=from : to : subject :
 date : message-id : from : subject : date;
 bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;
 b=F45dVWDfMbQDGHJFlXUNB2HKfbCeLRyhDXgFpEL8GwpsRe0IeIixNTe3
 DhCVlUrSjV4BwcVcOF6+FF3Zo9Rpo1tFOeS9mPYQTnGdaSGsgeefOsk2Jz
 dA+L10TeYt9BgDfQNZtKdN1WO//KgIqXP7OdEFE4LjFYNcUxZQ4FADY+8=
From: Joe SixPack <joe@football.example.com>
To: Suzie Q <suzie@shopping.example.net>
Subject: Is dinner ready?
Date: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)
Message-ID: <20030712040037.46341.5F8J@football.example.com>

Hi.

We lost the game.  Are you hungry yet?

Joe.
""".replace(b"\n", b"\r\n")
LETTER = (
    b"From: Ann <ann@a.test>\r\nTo: Bob <bob@b.test>\r\nSubject: a\r\n\t folded  one\r\n"
    b"Date: Mon, 1 Jan 2018 00:00:00 +0000\r\n\r\nHello  Bob, \r\n\r\n\tyours \r\n\r\n\r\n"
)


@cache
def rsa_key(bits: int) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


ED25519 = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(range(32)))


def pem(key: rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )


def public(key: rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey) -> str:
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return base64.b64encode(key.public_key().public_bytes_raw()).decode()
    return base64.b64encode(
        key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    ).decode()


def zone(more: str = "", bits: int = 2048) -> Zone:
    """Return a zone with a key of each kind."""
    return Zone(
        {
            ("r._domainkey.a.test", "TXT"): [f"v=DKIM1; k=rsa; {more}p={public(rsa_key(bits))}"],
            ("e._domainkey.a.test", "TXT"): [f"v=DKIM1; k=ed25519; {more}p={public(ED25519)}"],
        }
    )


def signed(raw: bytes = LETTER, algorithm: str = "rsa-sha256", bits: int = 2048) -> bytes:
    """Return a message signed by the code that signs what leaves."""
    draft = signing.draft(raw)
    selector = "e" if algorithm == "ed25519-sha256" else "r"
    value = signing.to_sign(draft, "a.test", selector, algorithm, int(NOW.timestamp()))
    octets = signing.signed_octets(draft, value)
    if algorithm == "ed25519-sha256":
        signature = ED25519.sign(hashlib.sha256(octets).digest())
    else:
        signature = rsa_key(bits).sign(octets, padding.PKCS1v15(), SHA256())
    return signing.field(value, signature) + raw


def tagged(tags: str, form: str = "relaxed", raw: bytes = LETTER, h: str = "from") -> bytes:
    """Return a message signed with these tags, whatever they say; `h=` covers From alone."""
    value = f" {tags}; h={h}; b=".encode()
    header = raw.partition(b"\r\n")[0]
    field = b"From", header.partition(b":")[2]
    octets = signing.relaxed_field("from", field[1]) + b"\r\n"
    octets += signing.relaxed_field("dkim-signature", value)
    assert form == "relaxed"
    signature = rsa_key(2048).sign(octets, padding.PKCS1v15(), SHA256())
    return b"DKIM-Signature:" + value + base64.b64encode(signature) + b"\r\n" + raw


def body_hash(length: int | None = None) -> str:
    body = signing.relaxed_body(LETTER.partition(b"\r\n\r\n")[2])
    return base64.b64encode(hashlib.sha256(body[:length]).digest()).decode()


def good(more: str = "") -> str:
    return f"v=1; a=rsa-sha256; c=relaxed/relaxed; d=a.test; s=r; bh={body_hash()}{more}"


async def check(raw: bytes, dns: Zone | None = None) -> tuple[Signature, ...]:
    return await check_dkim(dns or zone(), Content(raw), NOW)


async def results(raw: bytes, dns: Zone | None = None) -> list[str]:
    return [each.result for each in await check(raw, dns)]


async def test_the_message_of_rfc_8463() -> None:
    found = await check(RFC_8463, Zone(RFC_ZONE))
    assert [(each.result, each.algorithm, each.reason) for each in found] == [
        ("pass", "ed25519-sha256", ""),
        ("pass", "rsa-sha256", "key of 1024 bits"),
    ]
    assert await results(RFC_8463.replace(b"\r\n", b"\n"), Zone(RFC_ZONE)) == ["pass", "pass"]


@pytest.mark.parametrize(
    ("file", "wanted"), [("rfc6376.signed.msg", ["pass", "pass"]), ("ed25519test2.msg", ["pass"])]
)
async def test_messages_that_come_with_dkimpy(file: str, wanted: list[str]) -> None:
    assert await results((DATA / file).read_bytes(), Zone(RFC_ZONE)) == wanted


@pytest.mark.parametrize("header", [b"simple", b"relaxed"])
@pytest.mark.parametrize("body", [b"simple", b"relaxed"])
@pytest.mark.parametrize("algorithm", [b"rsa-sha256", b"ed25519-sha256"])
@pytest.mark.parametrize("length", [False, True])
async def test_what_dkimpy_signs(
    header: bytes, body: bytes, algorithm: bytes, length: bool
) -> None:
    is_rsa = algorithm == b"rsa-sha256"
    key = pem(rsa_key(2048)) if is_rsa else base64.b64encode(bytes(range(32)))
    field = dkimpy.sign(
        LETTER, b"r" if is_rsa else b"e", b"a.test", key, canonicalize=(header, body),
        signature_algorithm=algorithm, length=length,
    )  # fmt: skip
    raw = field.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n") + LETTER
    # dkimpy signs with the time of this machine
    (found,) = await check_dkim(zone(), Content(raw), datetime.now(UTC))
    assert (found.result, found.reason) == ("pass", "")


@pytest.mark.parametrize("header", ["simple", "relaxed"])
@pytest.mark.parametrize("body", ["simple", "relaxed"])
async def test_what_opendkim_signs(header: str, body: str, tmp_path: Path) -> None:
    program = shutil.which("opendkim", path="/usr/sbin:/usr/bin")
    assert program is not None, "tests/clients.sh installs opendkim"
    key, settings, letter = (tmp_path / name for name in ("key.pem", "settings", "letter.eml"))
    key.write_bytes(pem(rsa_key(2048)))
    key.chmod(0o600)
    settings.write_text(
        f"Domain a.test\nSelector r\nKeyFile {key}\nMode s\nSignatureAlgorithm rsa-sha256\n"
        f"Canonicalization {header}/{body}\nInternalHosts 0.0.0.0/0\nRequireSafeKeys no\n"
    )
    letter.write_bytes(LETTER)
    done = subprocess.run(
        [program, "-x", settings, "-t", letter, "-vv"], capture_output=True, check=True
    )
    found = re.search(rb"hname='DKIM-Signature' hvalue='([^']*)'", done.stdout)
    assert found is not None, done.stdout
    raw = b"DKIM-Signature: " + found[1].replace(b"\n", b"\r\n") + b"\r\n" + LETTER
    (signature,) = await check_dkim(zone(), Content(raw), datetime.now(UTC))
    assert (signature.result, signature.reason) == ("pass", "")


@pytest.mark.parametrize("algorithm", ["rsa-sha256", "ed25519-sha256"])
async def test_no_octet_can_be_changed(algorithm: str) -> None:
    raw = signed(algorithm=algorithm)
    assert await results(raw) == ["pass"]
    survivors = []
    for index in range(len(raw)):
        for octet in (raw[index] ^ 1, raw[index] ^ 0x20, 0, 255):
            changed = raw[:index] + bytes([octet]) + raw[index + 1 :]
            if changed != raw and "pass" in await results(changed):
                survivors.append(index)
    # the relaxed form does not see the case of field names, and no more
    assert all(_is_in_a_name(raw, index) for index in survivors), [
        raw[index - 10 : index + 10] for index in survivors
    ]


def _is_in_a_name(raw: bytes, index: int) -> bool:
    line = raw[raw.rfind(b"\r\n", 0, index) + 2 : index]
    return not line or (b":" not in line and line[:1].isalpha())


@pytest.mark.parametrize(
    ("change", "result"),
    [
        ((b"Subject: a", b"SUBJECT:   a"), "pass"),
        ((b"Hello  Bob, \r\n", b"Hello\tBob,\r\n"), "pass"),
        ((b"Hello", b"Hallo"), "fail"),
        ((b"Subject: a", b"Subject: b"), "fail"),
        ((b"From: Ann", b"From: Eve <eve@b.test>\r\nFrom: Ann"), "permerror"),
        ((b"Subject: a", b"Subject: x\r\nSubject: a"), "fail"),
        ((b"From: Ann", b"Received: x\r\nFrom: Ann"), "pass"),
    ],
)
async def test_changes_on_the_way(change: tuple[bytes, bytes], result: str) -> None:
    assert await results(signed().replace(*change)) == [result]


@pytest.mark.parametrize(
    ("raw", "result", "reason"),
    [
        (tagged(good()), "pass", ""),
        (tagged(good("; i=x@a.test")), "pass", ""),
        (tagged(good("; i=x@sub.a.test")), "pass", ""),
        (tagged(good("; i=x@b.test")), "permerror", "i= is not in d="),
        (tagged(good("; i=x@xa.test")), "permerror", "i= is not in d="),
        (tagged(good("; q=http")), "permerror", "the key is not in DNS"),
        (tagged(good("; t=1; x=2")), "fail", "the signature has expired"),
        (tagged(good("; t=3; x=2")), "permerror", "x= is before t="),
        (tagged(good("; t=9999999999")), "fail", "the signature is from the future"),
        (tagged(good("; t=yesterday")), "permerror", "t= is not a number"),
        (tagged(good("; d=a.test")), "permerror", "two d="),
        (tagged(good("; nonsense")), "permerror", "not a list of tags"),
        (tagged(good(), h="to"), "permerror", "From is not signed"),
        (tagged(good(), h="from::to"), "permerror", "h= is not a list of names"),
        (tagged(good(f"; l={len(LETTER)}")), "permerror", "l= is more than there is"),
        (tagged(good().replace("v=1", "v=2")), "permerror", "the signature is of another version"),
        (tagged(good().replace("sha256", "sha1")), "policy", "rsa-sha1 is not accepted"),
        (tagged(good().replace("rsa-sha256", "x")), "permerror", "an unknown algorithm"),
        (tagged(good().replace("relaxed/", "nofws/")), "permerror", "an unknown c="),
        (tagged(good().replace("d=a.test", "d=")), "permerror", "d= is not a domain"),
        (tagged(good().replace("s=r", "s=..")), "permerror", "s= is not a domain"),
        (tagged(good().replace("bh=", "bh=!")), "permerror", "bh= is not base64"),
        (tagged(good().replace("s=r", "s=gone")), "permerror", "there is no key in DNS"),
        (tagged(good().replace("s=r", "s=e")), "permerror", "the key is for another algorithm"),
        (tagged(good("; z=" + "x" * 20_000)), "permerror", "too long"),
    ],
)
async def test_tags(raw: bytes, result: str, reason: str) -> None:
    (found,) = await check(raw)
    assert (found.result, found.reason) == (result, reason)


async def test_what_is_behind_the_signed_part_is_told() -> None:
    length = len(signing.relaxed_body(LETTER.partition(b"\r\n\r\n")[2]))
    raw = tagged(good(f"; l={length}"))
    (found,) = await check(raw)
    assert (found.result, found.partial) == ("pass", False)
    (found,) = await check(raw + b"more\r\n")
    assert (found.result, found.partial) == ("pass", True)
    raw = tagged(f"v=1; a=rsa-sha256; c=relaxed/relaxed; d=a.test; s=r; bh={body_hash(5)}; l=5")
    (found,) = await check(raw + b"more\r\n")
    assert (found.result, found.partial) == ("pass", True)
    assert found.reason == "not all of the body is signed"


@pytest.mark.parametrize(
    ("more", "result", "reason"),
    [
        ("t=y; ", "pass", ""),
        ("t=s; ", "pass", ""),
        ("s=email; ", "pass", ""),
        ("s=tlsrpt:*; ", "pass", ""),
        ("s=tlsrpt; ", "policy", "the key is not for mail"),
        ("h=sha1:sha256; ", "pass", ""),
        ("h=sha1; ", "policy", "the key is not for SHA-256"),
        ("n=notes; g=*; x=1; ", "pass", ""),
        ("v=DKIM1; ", "permerror", "two v="),
        ("p=AAAA; ", "permerror", "two p="),
        ("n=" + "x" * 20_000 + "; ", "permerror", "too long"),
    ],
)
async def test_keys(more: str, result: str, reason: str) -> None:
    (found,) = await check(tagged(good()), zone(more))
    assert (found.result, found.reason) == (result, reason)
    assert found.testing == ("t=y" in more)


async def test_a_key_of_a_domain_alone_is_not_for_its_subdomains() -> None:
    (found,) = await check(tagged(good("; i=@x.a.test")), zone("t=y:s; "))
    assert (found.result, found.reason) == ("policy", "the key is not for subdomains")


@pytest.mark.parametrize(
    ("record", "result", "reason"),
    [
        ("v=DKIM1; p=", "policy", "the key was revoked"),
        ("v=DKIM1; k=rsa", "permerror", "the key has no p="),
        ("v=DKIM2; p=AAAA", "permerror", "the key is of another version"),
        ("v=DKIM1; p=!!!!", "permerror", "the key cannot be read"),
        ("v=DKIM1; p=AAAA", "permerror", "the key cannot be read"),
        (f"v=DKIM1; p={public(ED25519)}", "permerror", "the key cannot be read"),
        ("v=spf1 -all", "permerror", "the key is of another version"),
        ("some text", "permerror", "not a list of tags"),
        ("", "permerror", "not a list of tags"),
    ],
)
async def test_broken_keys(record: str, result: str, reason: str) -> None:
    dns = Zone({("r._domainkey.a.test", "TXT"): [record]})
    (found,) = await check(tagged(good()), dns)
    assert (found.result, found.reason) == (result, reason)
    dns.add("r._domainkey.a.test", "TXT", *zone().records["r._domainkey.a.test", "TXT"])
    assert await results(tagged(good()), dns) == ["pass"]  # a good one beside it is found


@pytest.mark.parametrize(
    ("bits", "result", "reason"),
    [(1024, "pass", "key of 1024 bits"), (2048, "pass", "")],
)
async def test_sizes_of_keys(bits: int, result: str, reason: str) -> None:
    (found,) = await check(signed(bits=bits), zone(bits=bits))
    assert (found.result, found.reason) == (result, reason)


async def test_a_key_whose_exponent_costs_time_is_not_accepted() -> None:
    modulus = rsa_key(2048).public_key().public_numbers().n
    slow = rsa.RSAPublicNumbers(2**2046 + 1, modulus).public_key()
    octets = slow.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    record = f"v=DKIM1; p={base64.b64encode(octets).decode()}"
    (found,) = await check(tagged(good()), Zone({("r._domainkey.a.test", "TXT"): [record]}))
    wanted = ("policy", "a key with such a public exponent is not accepted")
    assert (found.result, found.reason) == wanted


async def test_a_key_that_is_too_short_is_not_accepted() -> None:
    short = (  # 512 bits, made with openssl
        "MFwwDQYJKoZIhvcNAQEBBQADSwAwSAJBAKVS4PvqeyHUFdF8dbR+2XQ1TEt7dSFhFt8oxu9uT3ht"
        "0yVVOVOJlqgbXzPMzYyq7mHnA9Cj0nhQXKJQmQ+pdX0CAwEAAQ=="
    )
    (found,) = await check(
        tagged(good()), Zone({("r._domainkey.a.test", "TXT"): [f"v=DKIM1; p={short}"]})
    )
    assert (found.result, found.reason) == ("policy", "a key of 512 bits is not accepted")


@pytest.mark.parametrize("algorithm", ["rsa-sha256", "ed25519-sha256"])
async def test_lines_that_are_too_long_are_verified_as_they_are(algorithm: str) -> None:
    raw = LETTER + b"long " * 2000 + b"\r\n" + b"x" * 100_000 + b"\r\n"
    assert await results(signed(raw, algorithm)) == ["pass"]


async def test_a_large_message_is_verified_in_a_thread() -> None:
    raw = LETTER + b"a line  of text \r\n" * 200_000
    assert await results(signed(raw)) == ["pass"]
    assert await results(signed(raw).replace(b"a line", b"a word", 1)) == ["fail"]


async def test_a_resolver_that_fails_is_a_temporary_error() -> None:
    dns = zone()
    dns.failing.add(("r._domainkey.a.test", "TXT"))
    assert await results(signed(), dns) == ["temperror"]


async def test_each_of_ten_signatures_is_told_and_no_more_are_looked_at() -> None:
    one = signed().removesuffix(LETTER)
    broken = one.replace(b"bh=", b"bh=AAAA")
    dns = zone()
    found = await results(broken * 3 + one * 4 + broken * 93 + LETTER, dns)
    assert len(found) == MAX_SIGNATURES
    assert found == ["fail"] * 3 + ["pass"] * 4 + ["fail"] * 3
    assert len(dns.asked) == MAX_SIGNATURES


async def test_a_header_of_ten_megabytes_is_not_believed() -> None:
    padding_ = (b"X: " + b"y" * 70 + b"\r\n") * 140_000
    assert await results(signed().removesuffix(LETTER) + padding_ + LETTER) == ["policy"]
    thousand = signed().removesuffix(LETTER) * 1000 + LETTER
    assert await results(thousand) == ["policy"] * MAX_SIGNATURES
    raw = signed().partition(b"\r\n\r\n")
    assert await results(raw[0] + b"\r\n" + padding_ + b"\r\n" + raw[2]) == ["policy"]


@given(st.data())
async def test_any_change_of_a_message_has_a_result(data: st.DataObject) -> None:
    raw = bytearray(signed(algorithm="ed25519-sha256"))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(raw) - 1))
        raw[at : at + data.draw(st.integers(0, 30))] = data.draw(st.binary(max_size=30))
    for each in await check(bytes(raw)):
        assert each.result in {"pass", "fail", "policy", "permerror"}
