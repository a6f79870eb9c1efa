"""Headers of the PROXY protocol, whole, in pieces, cut and mutated."""

import ipaddress
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.errors import Invalid
from mailserver.networks import Ip, Networks
from mailserver.proxy_header import (
    MAX_BINARY,
    MAX_TEXT,
    SIGNATURE,
    Header,
    HeaderReader,
    NotProxy,
)

V4 = Header(("192.0.2.1", 56324), ("198.51.100.2", 25))
V6 = Header(("2001:db8::1", 4), ("2001:db8::2", 65535))


def binary(command: int, family: int, addresses: bytes, length: int | None = None) -> bytes:
    size = len(addresses) if length is None else length
    return SIGNATURE + bytes([command, family]) + size.to_bytes(2) + addresses


def packed(header: Header) -> bytes:
    assert header.source is not None
    assert header.destination is not None
    ends = (header.source, header.destination)
    octets = b"".join(ipaddress.ip_address(host).packed for host, _ in ends)
    return octets + b"".join(port.to_bytes(2) for _, port in ends)


UNIX = b"/run/a".ljust(108, b"\0") + b"/run/b".ljust(108, b"\0")
TLV = b"\x02\x00\x0bexample.org" + b"\x05\x00\x03abc"
HEADERS = [
    (b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 25\r\n", V4),
    (b"PROXY TCP6 2001:db8::1 2001:db8::2 4 65535\r\n", V6),
    (b"PROXY TCP6 ::ffff:192.0.2.1 ::ffff:198.51.100.2 56324 25\r\n", V4),
    (b"PROXY UNKNOWN\r\n", Header()),
    (b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n", Header()),
    (binary(0x21, 0x11, packed(V4)), V4),
    (binary(0x21, 0x21, packed(V6)), V6),
    (binary(0x21, 0x11, packed(V4) + TLV), V4),
    (binary(0x21, 0x21, packed(V6) + bytes(MAX_BINARY - 16 - 36)), V6),
    (binary(0x20, 0x00, b""), Header()),  # LOCAL: a health check
    (binary(0x20, 0x11, packed(V4)), Header()),  # its addresses are skipped
    (binary(0x20, 0x11, b"abc"), Header()),
    (binary(0x21, 0x00, TLV), Header()),  # unspecified
    (binary(0x21, 0x12, packed(V4)), Header()),  # datagrams: not of this connection
    (binary(0x21, 0x31, UNIX), Header()),
]
WRONG = [
    b"EHLO client.example\r\n",
    b"PROXYTCP4 192.0.2.1 198.51.100.2 1 2\r\n",
    b"proxy TCP4 192.0.2.1 198.51.100.2 1 2\r\n",
    b"PROXY TCP4 192.0.2.1 198.51.100.2 1 2\n",
    b"PROXY TCP4 192.0.2.1 198.51.100.2 1\r\n",
    b"PROXY TCP4  192.0.2.1 198.51.100.2 1 2\r\n",
    b"PROXY TCP4 192.0.2.1 198.51.100.2 01 2\r\n",
    b"PROXY TCP4 192.0.2.1 198.51.100.2 65536 2\r\n",
    b"PROXY TCP4 192.0.2.1 198.51.100.2 -1 2\r\n",
    b"PROXY TCP4 192.0.2.1 198.51.100.256 1 2\r\n",
    b"PROXY TCP4 2001:db8::1 2001:db8::2 1 2\r\n",
    b"PROXY TCP6 192.0.2.1 198.51.100.2 1 2\r\n",
    b"PROXY TCP6 fe80::1%eth0 fe80::2 1 2\r\n",
    b"PROXY TCP5 192.0.2.1 198.51.100.2 1 2\r\n",
    b"PROXY UNKNOWN " + b"x" * MAX_TEXT,
    binary(0x11, 0x11, packed(V4)),  # version 1 in this form
    binary(0x22, 0x11, packed(V4)),  # a command that does not exist
    binary(0x21, 0x41, packed(V4)),  # a family that does not exist
    binary(0x21, 0x13, packed(V4)),
    binary(0x21, 0x11, packed(V4)[:-1]),
    binary(0x21, 0x21, packed(V4)),
    binary(0x21, 0x11, b"", MAX_BINARY),
    b"\r\n\r\n\x00\r\nQUIT\r",
    b"\r\nEHLO",
]


@pytest.mark.parametrize(("octets", "expected"), HEADERS)
def test_a_header_is_read_however_it_arrives(octets: bytes, expected: Header) -> None:
    whole = HeaderReader()
    assert whole.feed(octets + b"EHLO") == expected
    assert whole.rest == b"EHLO"
    pieces = HeaderReader()
    found = [pieces.feed(octets[index : index + 1]) for index in range(len(octets))]
    assert found[:-1] == [None] * (len(octets) - 1)
    assert found[-1] == expected
    assert pieces.rest == b""


@pytest.mark.parametrize("octets", WRONG)
def test_what_is_no_header_is_known_at_once(octets: bytes) -> None:
    with pytest.raises(NotProxy):
        HeaderReader().feed(octets)


@given(
    st.sampled_from([octets for octets, _ in HEADERS]),
    st.lists(st.tuples(st.integers(0, 300), st.binary(max_size=3)), max_size=3),
    st.lists(st.integers(0, 300), max_size=4),
)
def test_mutated_headers_are_read_or_refused_within_bounds(
    octets: bytes, changes: list[tuple[int, bytes]], cuts: list[int]
) -> None:
    for place, new in changes:
        octets = octets[:place] + new + octets[place + 1 :]
    octets += b"\r\n" + b"x" * (MAX_BINARY + MAX_TEXT)
    reader = HeaderReader()
    edges = [0, *sorted(min(cut, len(octets)) for cut in cuts), len(octets)]
    try:
        for start, end in itertools.pairwise(edges):
            header = reader.feed(octets[start:end])
            if header is not None:
                break
        assert header is not None  # more than the longest header: nothing is waited for
    except NotProxy:
        return
    for named in (header.source, header.destination):
        if named is not None:
            ipaddress.ip_address(named[0])
            assert 0 <= named[1] <= 65535


@given(st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)), st.integers(0, 65535))
def test_every_address_comes_back(address: Ip, port: int) -> None:
    text = f"PROXY TCP{address.version} {address} {address} {port} 0\r\n".encode()
    first = HeaderReader().feed(text)
    packed_end = address.packed * 2 + port.to_bytes(2) + b"\0\0"
    second = HeaderReader().feed(binary(0x21, 0x11 if address.version == 4 else 0x21, packed_end))
    assert first == second
    assert first is not None
    assert first.source is not None
    assert first.source[1] == port


def test_networks_of_both_families() -> None:
    networks = Networks("10.0.0.0/8 2001:db8::/32  192.0.2.7")
    for peer in ("10.1.2.3", "2001:db8::5", "192.0.2.7", "::ffff:10.0.0.1"):
        assert peer in networks
    for peer in ("11.0.0.1", "192.0.2.8", "2001:db9::1", "", "/run/socket", "localhost"):
        assert peer not in networks
    assert not bool(Networks(""))
    assert "10.0.0.1" not in Networks("")
    for wrong in ("10.0.0.1/x", "example.org", "10.0.0.0/33"):
        with pytest.raises(Invalid, match=wrong):
            Networks(wrong)
