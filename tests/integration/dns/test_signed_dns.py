"""The resolver on a real DNS with signatures: what is secure, insecure, forged, and not there."""

import time

import pytest

from mailserver.config import Dns
from mailserver.dns import LookupFailed, MailExchanger, Resolver
from tests.signed_dns import SignedDns


@pytest.fixture
def resolver(signed_dns: SignedDns) -> Resolver:
    settings = Dns.model_validate({"servers": signed_dns.server, "validating": True})
    return Resolver(settings, time.monotonic)


async def test_what_is_signed_is_secure(resolver: Resolver) -> None:
    answer = await resolver.mx("example.test")
    assert answer.secure
    assert answer.records == (
        MailExchanger(10, "mx1.example.test"),
        MailExchanger(20, "mx2.example.test"),
    )
    assert len(await resolver.tlsa("mx1.example.test", 25)) == 1
    assert (await resolver.txt("_dmarc.test")).records == (b"v=DMARC1; p=none; psd=y",)
    keys = (await resolver.txt("rsa._domainkey.example.test")).records
    assert len(keys) == 1 and keys[0].startswith(b"v=DKIM1; k=rsa; p=MII")  # noqa: PT018


async def test_what_is_not_there_is_secure_too(resolver: Resolver) -> None:
    nothing = await resolver.aaaa("example.test")
    assert (nothing.records, nothing.exists, nothing.secure) == ((), True, True)
    no_name = await resolver.txt("nowhere.test")
    assert (no_name.records, no_name.exists, no_name.secure) == ((), False, True)
    between = await resolver.a("b.deep.test")
    assert (between.records, between.exists) == ((), True)
    assert not (await resolver.a("example.org")).exists  # nothing leaves the machine


async def test_a_zone_without_signatures_is_answered_and_not_secure(resolver: Resolver) -> None:
    answer = await resolver.mx("insecure.test")
    assert [each.host for each in answer.records] == ["mx.insecure.test"]
    assert not answer.secure
    assert await resolver.tlsa("mx.insecure.test", 25) == []


@pytest.mark.parametrize(
    ("name", "kind"), [("bogus.test", "TXT"), ("mx.bogus.test", "A"), ("_dmarc.bogus.test", "TXT")]
)
async def test_what_was_changed_on_its_way_is_no_answer(
    resolver: Resolver, name: str, kind: str
) -> None:
    with pytest.raises(LookupFailed, match="SERVFAIL"):
        await resolver.texts(name, kind)


async def test_aliases_wildcards_and_circles(resolver: Resolver) -> None:
    answer = await resolver.a("far-alias.test")
    assert (answer.records, answer.name, answer.secure) == (("127.0.0.2",), "example.test", True)
    assert (await resolver.txt("any.wild.test")).records == (b"any name",)
    assert not (await resolver.a("dangling.test")).exists
    with pytest.raises(LookupFailed):
        await resolver.a("loop1.test")


async def test_what_no_datagram_holds_comes_by_tcp(resolver: Resolver) -> None:
    answer = await resolver.txt("long.test")
    assert answer.records == (b"much too long for a datagram; " * 150,)
    assert answer.secure


async def test_names_of_addresses(resolver: Resolver) -> None:
    assert (await resolver.ptr("127.0.0.2")).records == ("mx1.example.test",)
    assert not (await resolver.ptr("127.0.0.99")).exists
    assert not (await resolver.ptr("192.0.2.1")).exists


async def test_a_block_list_has_its_test_points(resolver: Resolver) -> None:
    assert (await resolver.a("2.0.0.127.dnsbl.test")).records == ("127.0.0.2",)
    assert not (await resolver.a("1.0.0.127.dnsbl.test")).exists
    assert (await resolver.a("2.0.0.127.refusing.test")).records == ("127.255.255.254",)
