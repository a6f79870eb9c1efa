"""Web push: the example of RFC 8291, signatures, and URLs that nobody may be made to ask."""

import base64
import hashlib
import ipaddress
import json

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from hypothesis import given
from hypothesis import strategies as st

from mailserver.errors import Invalid
from mailserver.jmap.protocol.push_keys import MAX_PLAINTEXT, read_base64url, write_base64url
from mailserver.jmap.protocol.push_urls import check_url, is_public
from mailserver.jmap.protocol.webpush import RECORD, Claims, Vapid, encrypt, is_point
from tests.webpush import decrypt

# RFC 8291 §5
TEXT = b"When I grow up, I want to be a watermelon"
DEVICE_KEY = "q1dXpw3UpT5VOmu_cf_v6ih07Aems3njxI-JWgLcM94"
DEVICE_POINT = (
    "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4"
)
SERVER_KEY = "yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw"
AUTH = "BTBZMqHH6r4Tts7J_aSIgg"
SALT = "DGv6ra1nlYgDCS1FRnbzlw"
MESSAGE = (
    "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS"
    "6TlzAC8wEqKK6PBru3jl7A_yl95bQpu6cVPTpK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qu"
    "lcy4a-fN"
)


def octets(text: str) -> bytes:
    found = read_base64url(text)
    assert found is not None
    return found


def key_of(text: str) -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(int.from_bytes(octets(text), "big"), ec.SECP256R1())


def test_the_example_of_the_rfc() -> None:
    message = encrypt(
        TEXT,
        p256dh=octets(DEVICE_POINT),
        auth=octets(AUTH),
        salt=octets(SALT),
        key=key_of(SERVER_KEY),
    )
    assert write_base64url(message) == MESSAGE
    assert decrypt(message, key_of(DEVICE_KEY), octets(AUTH)) == TEXT


def test_the_largest_message_fits_into_a_record() -> None:
    message = encrypt(
        b"x" * MAX_PLAINTEXT,
        p256dh=octets(DEVICE_POINT),
        auth=octets(AUTH),
        salt=octets(SALT),
        key=key_of(SERVER_KEY),
    )
    assert len(message) == RECORD
    assert decrypt(message, key_of(DEVICE_KEY), octets(AUTH)) == b"x" * MAX_PLAINTEXT


def test_signatures_are_of_the_key_that_is_shown() -> None:
    key = key_of(SERVER_KEY)
    vapid = Vapid(key)
    header = vapid.authorization(Claims("https://push.example.org", 1_800_000_000, "mailto:a@b.c"))
    scheme, _, rest = header.partition(" ")
    fields = dict(each.split("=", 1) for each in rest.split(", "))
    assert scheme == "vapid"
    assert fields["k"] == vapid.application_server_key
    assert is_point(octets(fields["k"]))
    head, claims, signature = fields["t"].split(".")
    assert json.loads(octets(head)) == {"typ": "JWT", "alg": "ES256"}
    assert json.loads(octets(claims)) == {
        "aud": "https://push.example.org", "exp": 1_800_000_000, "sub": "mailto:a@b.c",
    }  # fmt: skip
    raw = octets(signature)
    halves = int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big")
    key.public_key().verify(
        encode_dss_signature(*halves), f"{head}.{claims}".encode(), ec.ECDSA(hashes.SHA256())
    )


@given(st.binary(max_size=80))
def test_base64url(data: bytes) -> None:
    assert read_base64url(write_base64url(data)) == data
    assert read_base64url(base64.urlsafe_b64encode(data).decode()) == data


@given(st.text(max_size=100))
def test_what_is_no_key_is_refused(text: str) -> None:
    found = read_base64url(text)
    assert found is None or not is_point(found)


@pytest.mark.parametrize("data", [b"", octets(DEVICE_POINT)[:-1], b"\x04" + b"\0" * 64,
                                  b"\x02" + hashlib.sha256(b"").digest()])  # fmt: skip
def test_points_are_of_the_curve_and_whole(data: bytes) -> None:
    assert is_point(octets(DEVICE_POINT))
    assert not is_point(data)


@pytest.mark.parametrize(
    "url",
    [
        "https://push.example.org/send/x?y=z",
        "https://push.example.org:8443/",
        "https://1.1.1.1/",
        "https://[2606:4700::1111]/",
    ],
)
def test_urls_that_are_asked(url: str) -> None:
    check_url(url, allow_private=False)


@pytest.mark.parametrize(
    "url",
    [
        "", "push", "http://push.example.org/", "ftp://push.example.org/", "https:///x",
        "https://user@push.example.org/", "https://push.example.org/#x", "https://a b/",
        "https://push.example.org:0/", "https://push.example.org:99999/", "https://[::1/",
        "https://push.example.org/\n", "https://püsh.example.org/", "https://127.0.0.1/",
        "https://10.1.2.3/", "https://192.168.0.1/", "https://169.254.169.254/latest",
        "https://[::1]/", "https://[fe80::1]/", "https://[fc00::1]/", "https://0.0.0.0/",
        "https://[::ffff:127.0.0.1]/", "https://[64:ff9b::7f00:1]/", "https://[2002:7f00:1::]/",
        "https://[64:ff9b:1::a00:1]/", "https://[::7f00:1]/",
        "https://127.1/", "https://2130706433/", "https://0x7f000001/", "https://0x7f.1/",
        "https://1.1.1.1.2/", "https://224.0.0.1/", "https://100.64.0.1/",
        "https://push.example.org/" + "x" * 2048,
    ],
)  # fmt: skip
def test_urls_that_are_not(url: str) -> None:
    with pytest.raises(Invalid):
        check_url(url, allow_private=False)


@given(st.text(max_size=60) | st.text(max_size=60).map(lambda text: f"https://{text}"))
def test_any_text_is_a_url_or_is_refused(url: str) -> None:
    try:
        check_url(url, allow_private=True)
    except Invalid:
        return
    assert url.lower().startswith("https://")


@given(st.ip_addresses())
def test_private_addresses_are_not_public(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    if is_public(address):
        assert address.is_global
        assert not address.is_multicast
