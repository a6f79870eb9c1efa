"""Where reports go: what a record says, and that nobody gets what he did not ask for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.address import parse_address
from mailserver.feedback.destinations import Target, of_dmarc, of_tls, targets, wants
from tests.zone import Zone


def to(address: str, limit: int | None = None) -> Target:
    return Target(parse_address(address), limit)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mailto:a@x.test", [to("a@x.test")]),
        ("mailto:a@x.test!10m, MAILTO:b@y.test!5", [to("a@x.test", 10 << 20), to("b@y.test", 5)]),
        ("https://x.test/r,mailto:a@x.test", [to("a@x.test")]),
        ("mailto:a%21b@x.test", [to("a!b@x.test")]),
        ("mailto:a@x.test?subject=x", [to("a@x.test")]),
        ("mailto:a@x.test,mailto:A@x.test", [to("a@x.test")]),
        ("mailto:, mailto:x, nonsense, ,", []),
        ("mailto:a@x.test%0d%0aRCPT", []),
        (",".join(f"mailto:a{n}@x.test" for n in range(50)), None),
    ],
)
def test_addresses_in_rua(text: str, expected: list[Target] | None) -> None:
    found = targets(text)
    assert len(found) == 5 if expected is None else list(found) == expected


async def test_records() -> None:
    zone = Zone(
        {
            ("_dmarc.a.test", "TXT"): ["other", "v=DMARC1; p=none; rua=mailto:r@a.test"],
            ("_dmarc.two.test", "TXT"): ["v=DMARC1; p=none", "v=DMARC1; p=reject"],
            ("_smtp._tls.a.test", "TXT"): ["v=TLSRPTv1; rua=mailto:t@a.test,https://a.test/"],
        }
    )
    dmarc, tls = await of_dmarc(zone, "a.test"), await of_tls(zone, "a.test")
    assert dmarc is not None
    assert (dmarc.targets, dmarc.tags["p"]) == ((to("r@a.test"),), "none")
    assert tls is not None
    assert tls.targets == (to("t@a.test"),)
    assert await of_dmarc(zone, "two.test") is None
    assert await of_tls(zone, "b.test") is None


@pytest.mark.parametrize(
    ("record", "address", "wanted"),
    [
        (None, "r@a.test", True),
        (None, "r@mail.a.test", True),  # the same organization: the record of a.test is theirs
        (None, "r@b.test", False),
        (("a.test._report._dmarc.b.test", "v=DMARC1"), "r@b.test", True),
        (("a.test._report._dmarc.b.test", "v=DMARC1; rua=mailto:x@b.test"), "r@b.test", True),
        (("a.test._report._dmarc.b.test", "v=spf1 -all"), "r@b.test", False),
        (("c.test._report._dmarc.b.test", "v=DMARC1"), "r@b.test", False),
    ],
)
async def test_address_of_somebody_else_has_to_be_willing(
    record: tuple[str, str] | None, address: str, wanted: bool
) -> None:
    zone = Zone({("_dmarc.a.test", "TXT"): ["v=DMARC1; p=reject"]})
    if record is not None:
        zone.add(record[0], "TXT", record[1])
    assert await wants(zone, "a.test", to(address)) is wanted


@given(st.text(max_size=60))
def test_any_rua_gives_addresses(text: str) -> None:
    for target in targets(f"mailto:a@x.test,{text}"):
        assert "\r" not in str(target.address)
        assert "\n" not in str(target.address)
