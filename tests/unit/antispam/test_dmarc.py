"""DMARC beside its cases: what is done with a message, and what makes that milder."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.antispam.authentication.content import Content
from mailserver.antispam.authentication.dmarc import Evidence, author_domains, check_dmarc
from mailserver.antispam.authentication.policies import read_record, walk_names
from mailserver.antispam.authentication.results import Arc, Dmarc, Signature, Spf
from mailserver.antispam.verdict import Action
from tests.zone import Zone

REJECT = {("_dmarc.a.test", "TXT"): ["v=DMARC1; p=reject"]}


async def check(
    zone: Zone,
    header: str = "From: ann@a.test",
    spf: Spf | None = None,
    signatures: Sequence[Signature] = (),
    arc: Arc | None = None,
    trusted: frozenset[str] = frozenset(),
    suffix_list: bool = False,
    body: str = "",
) -> Dmarc:
    return await check_dmarc(
        zone,
        Content(f"{header}\r\n\r\n{body}".encode()),
        Evidence(spf or Spf("none", "mailfrom"), signatures, arc or Arc("none")),
        trusted_sealers=trusted,
        suffix_list=suffix_list,
    )


@pytest.mark.parametrize(
    ("record", "disposition", "action"),
    [
        ("p=reject", "reject", Action.REJECT),
        ("p=quarantine", "quarantine", Action.JUNK),
        ("p=none", "none", Action.ACCEPT),
        ("p=reject; t=y", "quarantine", Action.JUNK),
        ("p=quarantine; t=y", "none", Action.ACCEPT),
        ("p=none; t=y", "none", Action.ACCEPT),
        ("p=what; rua=mailto:x@a.test", "none", Action.ACCEPT),
        ("p=reject; sp=what; rua=mailto:x@a.test", "none", Action.ACCEPT),
    ],
)
async def test_what_is_done_with_mail_that_fails(
    record: str, disposition: str, action: Action
) -> None:
    found = await check(Zone({("_dmarc.a.test", "TXT"): [f"v=DMARC1; {record}"]}))
    assert (found.result, found.disposition, found.action) == ("fail", disposition, action)


@pytest.mark.parametrize("result", ["permerror", "softfail", "neutral", "none", "fail"])
async def test_only_a_pass_of_spf_counts_and_nothing_else_rejects(result: str) -> None:
    found = await check(
        Zone({("_dmarc.a.test", "TXT"): ["v=DMARC1; p=none"]}),
        spf=Spf(result, "mailfrom", "a.test"),
    )
    assert (found.result, found.action) == ("fail", Action.ACCEPT)


async def test_an_answer_that_is_missing_defers_only_where_it_decides() -> None:
    unclear = Spf("temperror", "mailfrom", "a.test")
    assert (await check(Zone(REJECT), spf=unclear)).action is Action.DEFER
    good = [Signature("pass", "a.test")]
    assert (await check(Zone(REJECT), spf=unclear, signatures=good)).result == "pass"
    other = Spf("temperror", "mailfrom", "b.test")
    assert (await check(Zone(REJECT), spf=other)).action is Action.REJECT
    none = Zone({("_dmarc.a.test", "TXT"): ["v=DMARC1; p=none"]})
    assert (await check(none, spf=unclear)).action is Action.ACCEPT
    key = [Signature("temperror", "a.test")]
    assert (await check(Zone(REJECT), signatures=key)).action is Action.DEFER


async def test_a_policy_that_nobody_can_tell_does_not_hold_up_a_domains_own_mail() -> None:
    zone = Zone()
    zone.failing.add(("_dmarc.a.test", "TXT"))
    assert (await check(zone)).action is Action.DEFER
    assert (await check(zone, spf=Spf("pass", "mailfrom", "a.test"))).result == "pass"
    assert (await check(zone, signatures=[Signature("pass", "a.test")])).result == "pass"
    assert (await check(zone, spf=Spf("pass", "mailfrom", "x.a.test"))).result == "temperror"


async def test_what_is_above_the_end_of_a_walk_may_fail() -> None:
    zone = Zone({("_dmarc.a.test", "TXT"): ["v=DMARC1; p=reject; psd=n"]})
    zone.failing.add(("_dmarc.test", "TXT"))
    assert (await check(zone, "From: x@sub.a.test")).policy_domain == "a.test"


async def test_signatures_of_a_part_do_not_count() -> None:
    signature = Signature("pass", "a.test", partial=True)
    assert (await check(Zone(REJECT), signatures=[signature])).result == "fail"


@pytest.mark.parametrize(
    ("header", "result", "disposition"),
    [
        ("From: a@a.test, b@a.test", "fail", "reject"),
        ("From: a@b.test, b@a.test", "fail", "reject"),
        ("From: a@b.test\r\nFrom: b@a.test", "fail", "reject"),
        ("From: b@a.test\r\nFrom: a@b.test", "fail", "reject"),
        ("From: " + ", ".join(f"a@b{n}.test" for n in range(9)), "permerror", "quarantine"),
        ("From: nobody", "permerror", "none"),
        ("From: friends: ;", "permerror", "none"),
        ("Subject: no author", "permerror", "none"),
        ("From: x@A.TEST", "fail", "reject"),
        ('From: "x@b.test" <x@a.test>', "fail", "reject"),
    ],
)
async def test_authors(header: str, result: str, disposition: str) -> None:
    spf = Spf("pass", "mailfrom", "b.test")
    found = await check(Zone(REJECT), header, spf=spf)
    assert (found.result, found.disposition) == (result, disposition)


async def test_a_domain_in_unicode_is_the_same_domain() -> None:
    zone = Zone({("_dmarc.xn--bcher-kva.test", "TXT"): ["v=DMARC1; p=reject"]})
    found = await check(zone, "From: x@bücher.test")
    assert (found.domain, found.disposition) == ("xn--bcher-kva.test", "reject")


PASSED = b" i=1; list.test; spf=fail; dmarc=pass header.from=a.test"


@pytest.mark.parametrize(
    ("sealers", "results", "trusted", "override"),
    [
        (("list.test",), (PASSED,), "list.test", "trusted_forwarder"),
        (("list.test",), (PASSED,), "", ""),
        (("list.test",), (PASSED.replace(b"a.test", b"b.test"),), "list.test", ""),
        (("list.test",), (PASSED.replace(b"pass", b"fail"),), "list.test", ""),
        (("list.test",), (b" i=1; list.test (dmarc=pass); x=1",), "list.test", ""),
        (("list.test",), (b' i=1; list.test; x="; dmarc=pass"',), "list.test", ""),
        (("evil.test", "list.test"), (PASSED, b"dmarc=fail"), "list.test", ""),
        (("list.test", "evil.test"), (PASSED, PASSED), "list.test", ""),
        (
            ("list.test", "hop.test"),
            (PASSED, b" i=2; hop.test; arc=pass; dmarc=fail"),
            "list.test hop.test",
            "trusted_forwarder",
        ),
    ],
)
async def test_forwarders_that_are_trusted(
    sealers: tuple[str, ...], results: tuple[bytes, ...], trusted: str, override: str
) -> None:
    arc = Arc("pass", len(sealers), sealers[-1], sealers, results=results)
    found = await check(Zone(REJECT), arc=arc, trusted=frozenset(trusted.split()))
    assert (found.result, found.override) == ("fail", override)
    assert found.action is (Action.ACCEPT if override else Action.REJECT)
    broken = Arc("fail", len(sealers), sealers[-1], sealers, results=results)
    found = await check(Zone(REJECT), arc=broken, trusted=frozenset(trusted.split()))
    assert found.action is Action.REJECT


async def test_the_suffix_list_where_it_is_asked_for() -> None:
    zone = Zone(
        {
            ("_dmarc.example.co.uk", "TXT"): ["v=DMARC1; p=reject; sp=quarantine; np=none; t=y"],
            ("_dmarc.co.uk", "TXT"): ["v=DMARC1; p=none; psd=n"],
        }
    )
    header = "From: x@a.b.example.co.uk"
    spf = Spf("pass", "mailfrom", "other.co.uk")
    assert (await check(zone, header, spf, suffix_list=True)).result == "fail"
    spf = Spf("pass", "mailfrom", "mail.example.co.uk")
    assert (await check(zone, header, spf, suffix_list=True)).result == "pass"
    assert (await check(zone, header, Spf("pass", "mailfrom", "other.co.uk"))).result == "pass"


async def test_the_share_that_a_domain_names_is_kept_to() -> None:
    zone = Zone({("_dmarc.a.test", "TXT"): ["v=DMARC1; p=reject; pct=25"]})
    found = [await check(zone, body=str(number), suffix_list=True) for number in range(400)]
    assert (await check(zone)).disposition == "reject"  # RFC 9989 knows no such share
    rejected = sum(each.disposition == "reject" for each in found)
    assert 60 < rejected < 140
    milder = [each for each in found if each.disposition != "reject"]
    assert {(each.disposition, each.override) for each in milder} == {("quarantine", "sampled_out")}


@given(st.lists(st.from_regex(r"[a-z0-9]{1,5}", fullmatch=True), min_size=1, max_size=120))
def test_no_name_is_asked_for_more_than_eight_times(labels: list[str]) -> None:
    domain = ".".join(labels)
    names = walk_names(domain)
    assert len(names) <= 8
    assert names[0] == domain
    assert names[-1] == labels[-1]
    assert all(domain.endswith(name) for name in names)


@given(st.text(max_size=60), st.lists(st.sampled_from(["p=", "sp=", ";", "none", "=", "rua="])))
def test_any_text_is_a_record_or_none(text: str, parts: list[str]) -> None:
    for each in (text, "v=DMARC1;" + "".join(parts) + text, "v=DMARC1; p=reject; " + text):
        record = read_record("a.test", each)
        assert record is None or record.policy_for("x.a.test", True) in (
            "none",
            "quarantine",
            "reject",
        )


@given(st.binary(max_size=200))
async def test_any_author_has_an_outcome(value: bytes) -> None:
    content = Content(b"From: " + value + b"\r\n\r\n")
    evidence = Evidence(Spf("pass", "mailfrom", "a.test"), [], Arc("none"))
    found = await check_dmarc(Zone(REJECT), content, evidence)
    assert found.result in {"none", "pass", "fail", "permerror"}
    assert all(domain.isascii() for domain in author_domains(content))
