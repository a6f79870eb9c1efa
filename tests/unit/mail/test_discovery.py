"""Documents for mail programs: what they say, and that nothing in a request does harm."""

import plistlib
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.address import Address
from mailserver.config import Config
from mailserver.errors import Invalid
from mailserver.mail import discovery
from mailserver.smtp.protocol.sts import Mode, parse_policy

CONFIG = Config.model_validate({"server": {"hostname": "mail.example.test"}})
ADDRESS = Address("alice", "example.test")
OUTLOOK_RESPONSE = (
    "{http://schemas.microsoft.com/exchange/autodiscover/outlook/responseschema/2006a}"
)
# as Outlook for Microsoft 365 sends it
REQUEST = b"""<?xml version="1.0" encoding="utf-8"?><Autodiscover xmlns="http://schemas.microsoft.com/\
exchange/autodiscover/outlook/requestschema/2006"><Request><EMailAddress>alice@example.test\
</EMailAddress><AcceptableResponseSchema>http://schemas.microsoft.com/exchange/autodiscover/outlook/\
responseschema/2006a</AcceptableResponseSchema></Request></Autodiscover>"""
LAUGHS = b"""<?xml version="1.0"?><!DOCTYPE a [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]>
<a><EMailAddress>&b;@example.test</EMailAddress></a>"""


def told(**keys: object) -> Config:
    return Config.model_validate({"server": {"hostname": "mail.example.test"}, "discovery": keys})


def test_thunderbird_finds_the_best_way_first() -> None:
    found = ElementTree.fromstring(
        discovery.autoconfig(told(imap=143, host="in.example.test"), "example.test")
    )
    servers = [
        (each.tag, each.findtext("hostname"), each.findtext("port"), each.findtext("socketType"))
        for each in found.iter()
        if each.tag.endswith("Server")
    ]
    assert servers == [
        ("incomingServer", "in.example.test", "993", "SSL"),
        ("incomingServer", "in.example.test", "143", "STARTTLS"),
        ("outgoingServer", "in.example.test", "465", "SSL"),
        ("outgoingServer", "in.example.test", "587", "STARTTLS"),
    ]
    assert found.findtext("emailProvider/domain") == "example.test"
    assert {each.text for each in found.iter("username")} == {"%EMAILADDRESS%"}


def test_outlook_finds_one_server_of_each_kind() -> None:
    address = Address('"<&>"', "example.test")
    found = ElementTree.fromstring(discovery.autodiscover(told(submissions=0), address))
    protocols = {
        each.findtext(f"{OUTLOOK_RESPONSE}Type"): [
            each.findtext(OUTLOOK_RESPONSE + name)
            for name in ("Server", "Port", "SSL", "Encryption")
        ]
        for each in found.iter(f"{OUTLOOK_RESPONSE}Protocol")
    }
    assert protocols == {
        "IMAP": ["mail.example.test", "993", "on", "SSL"],
        "SMTP": ["mail.example.test", "587", "off", "TLS"],
    }
    logins = {each.text for each in found.iter(f"{OUTLOOK_RESPONSE}LoginName")}
    assert logins == {str(address)}  # whatever is in it, it is text


def test_a_profile_stays_the_same_and_replaces_the_one_before() -> None:
    made = [discovery.profile(CONFIG, ADDRESS) for _ in range(2)]
    assert made[0] == made[1]
    content = plistlib.loads(made[0])["PayloadContent"][0]
    assert content["EmailAddress"] == content["IncomingMailServerUsername"] == "alice@example.test"
    assert content["IncomingMailServerPortNumber"] == 993
    assert content["OutgoingMailServerPortNumber"] == 465
    other = plistlib.loads(discovery.profile(CONFIG, Address("bob", "example.test")))
    assert other["PayloadUUID"] != plistlib.loads(made[0])["PayloadUUID"]


def test_a_policy_is_read_as_other_servers_read_it() -> None:
    text = discovery.policy(told(mta_sts="enforce", mta_sts_hosts="a.example.test *.example.org"))
    assert text is not None
    read = parse_policy(text)
    assert read.mode is Mode.ENFORCE
    assert read.hosts == ("a.example.test", "*.example.org")
    assert read.max_age == 604800
    usual = discovery.policy(CONFIG)
    assert usual is not None
    assert parse_policy(usual).allows("mail.example.test")
    assert discovery.policy_id(usual) == discovery.policy_id(usual) != discovery.policy_id(text)
    assert discovery.policy(told(mta_sts="none")) is None


def test_the_request_of_outlook_is_read() -> None:
    assert discovery.read_autodiscover(REQUEST) == "alice@example.test"
    in_utf_16 = REQUEST.replace(b'encoding="utf-8"', b'encoding="utf-16"').decode().encode("utf-16")
    assert discovery.read_autodiscover(in_utf_16) == "alice@example.test"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<a>",
        REQUEST[:200],
        LAUGHS,
        b'<!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>',
        REQUEST.replace(b"alice@example.test", b""),
        REQUEST.replace(b"utf-8", b"no-such"),
        REQUEST + b" " * discovery.MAX_REQUEST,
    ],
)
def test_what_is_no_request_is_refused(body: bytes) -> None:
    with pytest.raises(Invalid):
        discovery.read_autodiscover(body)


@given(st.data())
def test_a_changed_request_is_read_or_refused(chance: st.DataObject) -> None:
    octets = bytearray(chance.draw(st.sampled_from([REQUEST, LAUGHS])))
    for _ in range(chance.draw(st.integers(1, 5))):
        octets[chance.draw(st.integers(0, len(octets) - 1))] = chance.draw(st.integers(0, 255))
    try:
        address = discovery.read_autodiscover(bytes(octets))
    except Invalid:
        return
    assert 0 < len(address) <= discovery.MAX_TEXT
