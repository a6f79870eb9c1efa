"""Lists in DNS: what their answers mean, and when they are not believed."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from mailserver.address import Address
from mailserver.antispam.dnsbl import DnsLists, NameLists, chosen, fits, reversed_labels
from mailserver.antispam.evidence import Client, Finding, Inquiry
from mailserver.antispam.hosts import HOST_LIMIT, hosts, registered
from mailserver.errors import ConfigurationError
from mailserver.metrics import Metrics
from tests.unit.antispam.zone import Zone


@pytest.fixture
def zone() -> Zone:
    """DNS with the lists zen and dnswl, in good order."""
    zone = Zone()
    zone.add("2.0.0.127.zen.spamhaus.org", "127.0.0.2", "127.0.0.4")
    zone.add("2.0.0.127.list.dnswl.org", "127.0.10.0")
    return zone


@pytest.fixture
def lists(zone: Zone) -> DnsLists:
    return DnsLists(chosen("zen dnswl", None, ""), zone, Metrics("test"))


async def look(lists: DnsLists, ip: str) -> dict[str, Finding]:
    return {name: await look for name, look in lists.of_client(ip).items()}


async def test_a_listed_client(zone: Zone, lists: DnsLists) -> None:
    zone.add("1.2.0.192.zen.spamhaus.org", "127.0.0.4")
    await lists.test()
    finding = (await look(lists, "192.0.2.1"))["zen"]
    assert (finding.result, finding.score) == ("listed", 6.0)
    assert [symbol.name for symbol in finding.symbols] == ["LIST_XBL"]
    assert lists.refusal(finding) == (
        "192.0.2.1 is listed by zen.spamhaus.org: exploited machines;"
        " see https://check.spamhaus.org/results?query=192.0.2.1"
    )


async def test_a_client_of_ipv6(zone: Zone, lists: DnsLists) -> None:
    labels = reversed_labels("2001:db8::1")
    assert labels.startswith("1.0.0.0.")
    assert labels.endswith(".8.b.d.0.1.0.0.2")
    zone.add(f"{labels}.zen.spamhaus.org", "127.0.0.2")
    await lists.test()
    assert (await look(lists, "2001:db8::1"))["zen"].result == "listed"
    assert reversed_labels("::ffff:192.0.2.1") == "1.2.0.192"


async def test_a_list_of_good_senders_has_negative_scores(zone: Zone, lists: DnsLists) -> None:
    zone.add("1.2.0.192.list.dnswl.org", "127.0.5.3")
    await lists.test()
    finding = (await look(lists, "192.0.2.1"))["dnswl"]
    assert finding.score == -5
    assert lists.refusal(finding) == ""


async def test_no_list_is_used_before_its_test_points_were_asked(lists: DnsLists) -> None:
    assert {each.result for each in (await look(lists, "192.0.2.1")).values()} == {"off"}


# smtp.md §6, 14: answers for open resolvers were taken for listings, and all mail bounced
@pytest.mark.parametrize("answer", ["127.255.255.252", "127.255.255.254", "127.255.255.255"])
async def test_an_answer_for_open_resolvers_is_no_listing_and_switches_the_list_off(
    zone: Zone, lists: DnsLists, answer: str, caplog: pytest.LogCaptureFixture
) -> None:
    await lists.test()
    zone.add("1.2.0.192.zen.spamhaus.org", answer)
    finding = (await look(lists, "192.0.2.1"))["zen"]
    assert (finding.result, finding.score) == ("off", 0)
    assert (await look(lists, "192.0.2.2"))["zen"].result == "off"
    assert caplog.messages.count("list in DNS is not used") == 1


async def test_a_list_that_lists_everything_is_off(zone: Zone, lists: DnsLists) -> None:
    zone.add("1.0.0.127.zen.spamhaus.org", "127.0.0.2")
    await lists.test()
    zone.add("1.2.0.192.zen.spamhaus.org", "127.0.0.2")
    assert (await look(lists, "192.0.2.1"))["zen"].result == "off"


async def test_a_list_without_its_test_point_is_off_until_it_has_one(
    zone: Zone, lists: DnsLists
) -> None:
    points = zone.addresses.pop("2.0.0.127.zen.spamhaus.org")
    await lists.test()
    assert (await look(lists, "192.0.2.1"))["zen"].result == "off"
    zone.add("2.0.0.127.zen.spamhaus.org", *points)
    await lists.test()
    assert (await look(lists, "192.0.2.1"))["zen"].result == "unlisted"


async def test_the_answer_of_a_parked_domain_is_no_listing(zone: Zone, lists: DnsLists) -> None:
    await lists.test()
    zone.add("1.2.0.192.zen.spamhaus.org", "198.51.100.1")
    assert (await look(lists, "192.0.2.1"))["zen"].result == "off"


async def test_dnswl_that_punishes_too_many_questions_recommends_nobody(
    zone: Zone, lists: DnsLists
) -> None:
    await lists.test()
    zone.add("1.2.0.192.list.dnswl.org", "127.0.0.255")
    finding = (await look(lists, "192.0.2.1"))["dnswl"]
    assert (finding.result, finding.score) == ("off", 0)


async def test_a_list_that_does_not_answer_holds_up_only_a_few(zone: Zone, lists: DnsLists) -> None:
    await lists.test()
    zone.failing.add("zen.spamhaus.org")
    results = [(await look(lists, f"192.0.2.{n}"))["zen"].result for n in range(7)]
    assert results == ["temperror"] * 5 + ["off"] * 2


async def test_a_key_is_in_no_log_and_no_reply(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    zone = Zone()
    zone.add("2.0.0.127.s3cret.zen.dq.spamhaus.net", "127.0.0.2")
    zone.add("1.2.0.192.s3cret.zen.dq.spamhaus.net", "127.0.0.2")
    lists = DnsLists(chosen("zen-dqs", None, "zen-dqs=s3cret"), zone, Metrics("test"))
    await lists.test()
    finding = (await look(lists, "192.0.2.1"))["zen-dqs"]
    assert "zen.dq.spamhaus.net" in lists.refusal(finding)
    zone.failing.add("spamhaus.net")
    await lists.test()
    assert "s3cret" not in caplog.text + repr(finding) + lists.refusal(finding)
    assert "list in DNS is not used" in caplog.text


def test_wishes_for_a_list() -> None:
    [weak, kind] = chosen("zen=0.5 zen=score", None, "")
    assert weak.codes[0].symbol.score == 3
    assert (weak.refuse, kind.refuse) == (True, False)


@pytest.mark.parametrize(
    ("words", "keys", "why"),
    [
        ("nonsense", "", "no list nonsense"),
        ("zen-dqs", "", "the list zen-dqs needs a key"),
        ("zen=lots", "", "could not convert"),
        ("zen", "zen", "a word for each list"),
    ],
)
def test_mistakes_are_named(words: str, keys: str, why: str) -> None:
    with pytest.raises(ConfigurationError, match=why):
        chosen(words, None, keys)


def test_a_list_of_ones_own(tmp_path: Path) -> None:
    file = tmp_path / "lists.toml"
    text = '[own]\nzone = "x.test"\nof = "clients"\n[own.codes]\n"127.0.0.2" = [3, "OWN", "bad"]\n'
    file.write_text(text)
    [own] = chosen("own", file, "")
    assert own.codes[0].symbol.name == "LIST_OWN"
    file.write_text(text.replace("127.0.0.2", "127.0.2"))
    with pytest.raises(ConfigurationError, match="four octets"):
        chosen("own", file, "")


def test_every_list_that_ships_can_be_read() -> None:
    names = "zen dbl spamcop psbl mailspike dnswl surbl uribl zen-dqs dbl-dqs"
    assert len(chosen(names, None, "zen-dqs=k dbl-dqs=k")) == len(names.split())


@pytest.mark.parametrize(
    ("pattern", "answer", "is_meant"),
    [
        ("127.0.0.2", "127.0.0.2", True),
        ("127.0.0.4-7", "127.0.0.7", True),
        ("127.0.0.4-7", "127.0.0.8", False),
        ("127.0.*.3", "127.0.9.3", True),
        ("127.0.0.&8", "127.0.0.24", True),
        ("127.0.0.&8", "127.0.0.16", False),
    ],
)
def test_what_an_answer_means(pattern: str, answer: str, is_meant: bool) -> None:
    assert fits(pattern, answer) is is_meant


def inquiry(body: bytes, sender: str = "example.org") -> Inquiry:
    raw = b"Content-Type: text/html\r\n\r\n" + body
    address = Address("carol", sender)
    return Inquiry("s", Client("192.0.2.1"), address, (), raw, datetime.now(UTC))


async def test_domains_in_links_and_of_the_sender_are_asked_about() -> None:
    zone = Zone()
    zone.add("test.uribl.com.multi.uribl.com", "127.0.0.2")
    zone.add("bad.example.multi.uribl.com", "127.0.0.2")
    lists = DnsLists(chosen("uribl", None, ""), zone, Metrics("test"))
    await lists.test()
    judge = NameLists(lists)
    found = await judge.judge(inquiry(b'<a href="http://www.bad.example/x">x</a>'), ())
    assert [symbol.name for symbol in found.symbols] == ["LIST_URIBL_BLACK"]
    assert "bad.example is listed by multi.uribl.com" in found.reason
    assert (await judge.judge(inquiry(b"", "bad.example"), ())).score == 3
    assert (await judge.judge(inquiry(b"http://good.example/"), ())).result == "unlisted"


async def test_a_message_of_many_links_makes_few_questions() -> None:
    zone = Zone()
    zone.add("test.uribl.com.multi.uribl.com", "127.0.0.2")
    lists = DnsLists(chosen("uribl", None, ""), zone, Metrics("test"))
    await lists.test()
    body = b" ".join(b"http://host%d.example%d/" % (n, n) for n in range(10_000))
    await NameLists(lists).judge(inquiry(body), ())
    assert len(zone.asked) <= HOST_LIMIT + 3


def test_hosts_of_links() -> None:
    raw = (
        b"Content-Type: text/plain; charset=utf-8\r\n\r\n"
        b"http://User:x@EXAMPLE.org:80/ https://m\xc3\xbcnchen.example. http://192.0.2.1/ http://-/"
    )
    assert hosts(raw) == ["example.org", "xn--mnchen-3ya.example"]


def test_the_registered_domain() -> None:
    assert registered("a.b.example.org") == "example.org"
    assert registered("www.shop.co.uk") == "shop.co.uk"
    assert registered("example.de") == "example.de"
