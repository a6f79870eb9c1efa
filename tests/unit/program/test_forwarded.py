"""The client that proxies name: what they wrote counts, what anybody else wrote does not."""

from ipaddress import ip_address

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mailserver.app.forwarded import LONGEST, MOST, Field, Hop, client
from mailserver.networks import Networks

PROXIES = Networks("10.0.0.0/8 fd00::/8")
PEER = "10.0.0.1"


def named(field: Field, *lines: str, **more: str) -> Hop:
    headers = [(field.encode(), line.encode("latin-1")) for line in lines]
    headers += [(name.replace("_", "-").encode(), value.encode()) for name, value in more.items()]
    return client(headers, PEER, PROXIES, field)


@pytest.mark.parametrize(
    ("lines", "address"),
    [
        ([], PEER),
        (["192.0.2.1"], "192.0.2.1"),
        (["192.0.2.1:4711"], "192.0.2.1"),
        (["2001:db8::1"], "2001:db8::1"),
        (["[2001:db8::1]:4711"], "2001:db8::1"),
        (["::ffff:192.0.2.1"], "192.0.2.1"),
        (["203.0.113.9, 192.0.2.1"], "192.0.2.1"),  # the first was there before
        (["203.0.113.9", "192.0.2.1"], "192.0.2.1"),
        (["192.0.2.1, 10.9.9.9, fd00::1"], "192.0.2.1"),
        (["10.9.9.9"], "10.9.9.9"),  # a request of the proxy's own network
        (["203.0.113.9, nobody"], PEER),
        (["203.0.113.9, 10.9.9.9, unknown, 10.9.9.8"], "10.9.9.8"),
        (["192.0.2.1,"], PEER),
        (["192.0.2.1" + " " * LONGEST], PEER),
        ([", ".join(["192.0.2.1", *["10.0.0.2"] * MOST])], "10.0.0.2"),
    ],
)
def test_x_forwarded_for_is_read_from_its_end(lines: list[str], address: str) -> None:
    assert named("x-forwarded-for", *lines).address == address


@pytest.mark.parametrize(
    ("lines", "hop"),
    [
        (["for=192.0.2.60;proto=https;by=203.0.113.43"], Hop("192.0.2.60", "https")),
        (['For="[2001:db8:cafe::17]:4711"'], Hop("2001:db8:cafe::17")),
        (["for=192.0.2.43, for=198.51.100.17;proto=HTTPS"], Hop("198.51.100.17", "https")),
        (["for=192.0.2.43;proto=https, for=10.0.0.2;proto=http"], Hop("192.0.2.43", "https")),
        (['for=192.0.2.43;by="a, for=\\"x\\""'], Hop("192.0.2.43")),
        (["for=192.0.2.43 ; proto=http ,"], Hop("192.0.2.43", "http")),
        (["for=_hidden"], Hop(PEER)),
        (["for=203.0.113.9, for=unknown"], Hop(PEER)),
        (["proto=https"], Hop(PEER)),
        # a client that leaves a quotation mark open names nobody
        (['for=203.0.113.9;by=", for=192.0.2.1'], Hop(PEER)),
        (['for=203.0.113.9;by=", for="[2001:db8::1]:1"'], Hop(PEER)),
        (['for=203.0.113.9;by="', "for=192.0.2.1"], Hop("192.0.2.1")),
        (["for=203.0.113.9 for=192.0.2.1"], Hop(PEER)),
        (['for="' + "a" * LONGEST], Hop(PEER)),
    ],
)
def test_forwarded_is_read_from_its_end(lines: list[str], hop: Hop) -> None:
    assert named("forwarded", *lines) == hop


def test_only_the_field_that_was_agreed_on_is_read() -> None:
    assert named("forwarded", x_forwarded_for="192.0.2.1").address == PEER
    assert named("x-forwarded-for", forwarded="for=192.0.2.1").address == PEER
    told = named("x-forwarded-for", "192.0.2.1", x_forwarded_proto="http, https")
    assert told == Hop("192.0.2.1", "https")


ADDRESSES = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).map(str)
VALID = st.lists(
    st.one_of(ADDRESSES.map(lambda a: f'for="[{a}]"' if ":" in a else f"for={a}"), ADDRESSES),
    min_size=1,
    max_size=5,
).map(", ".join)


FIELDS: tuple[Field, ...] = ("forwarded", "x-forwarded-for")
TEXT = st.text(st.characters(max_codepoint=255), max_size=60)


@given(VALID, st.integers(0, 200), TEXT, st.sampled_from(FIELDS))
@example('for=203.0.113.9;by="', 20, "", "forwarded")
def test_whatever_a_client_sends_it_cannot_hide_behind_it(
    sent: str, place: int, noise: str, field: Field
) -> None:
    """A proxy adds to what was sent: the client is whom it names, or else the proxy itself."""
    text = sent[:place] + noise + sent[place:]
    for added in ("for=192.0.2.1", 'for="192.0.2.1"') if field == "forwarded" else ("192.0.2.1",):
        for lines in ([f"{text}, {added}"], [text, added]):
            found = named(field, *lines).address
            assert found in ("192.0.2.1", PEER)
            if len(lines) == 2:
                assert found == "192.0.2.1"


@given(st.lists(TEXT))
def test_any_field_names_an_address(lines: list[str]) -> None:
    for field in FIELDS:
        ip_address(named(field, *lines).address)
