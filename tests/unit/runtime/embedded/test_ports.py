"""The choice of ports."""

import random
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.runtime.embedded import ports
from mailserver.runtime.embedded.process import EmbeddedError

LOW, HIGH = ports.fixed_range()


def test_chosen_ports_are_distinct_free_and_in_range() -> None:
    chosen = ports.choose(None, random.Random(1), LOW, HIGH)
    assert len(set(chosen.all())) == 10
    assert all(LOW <= port <= HIGH for port in chosen.all())
    assert ports.taken(chosen) == []
    assert chosen.admin_grpc == chosen.admin + 10000


def test_kept_ports_stay_when_they_are_free() -> None:
    first = ports.choose(None, random.Random(2), LOW, HIGH)
    assert ports.choose(first, random.Random(3), LOW, HIGH) == first


@pytest.mark.parametrize("name", ["s3", "admin_grpc"])
def test_only_a_port_that_was_taken_is_replaced(name: str) -> None:
    first = ports.choose(None, random.Random(4), LOW, HIGH)
    with socket.socket() as other:
        other.bind(("127.0.0.1", getattr(first, name)))
        other.listen()
        assert ports.taken(first) == [getattr(first, name)]
        second = ports.choose(first, random.Random(5), LOW, HIGH)
    changed = {field for field in ports.NAMES if getattr(first, field) != getattr(second, field)}
    assert changed == {name.removesuffix("_grpc") if name == "admin_grpc" else name}


@pytest.mark.parametrize("address", ["0.0.0.0", "127.0.0.1", "127.0.0.2"])
def test_a_listener_on_any_address_counts(address: str) -> None:
    with socket.socket() as other:
        other.bind((address, 0))
        other.listen()
        assert not ports.is_free(other.getsockname()[1])


def test_a_listener_of_ipv6_counts() -> None:
    if not socket.has_dualstack_ipv6():
        pytest.skip("no IPv6")
    with socket.create_server(("", 0), family=socket.AF_INET6) as other:
        assert not ports.is_free(other.getsockname()[1])


def unused_ports() -> tuple[int, ports.SeaweedPorts]:
    """Choose ports in whose places there is nothing, not even of our own; others may do it now."""
    while True:
        seed = random.SystemRandom().getrandbits(64)
        chosen = ports.choose(None, random.Random(seed), LOW, HIGH)
        if not any(place.exists() for place in ports.sockets(chosen)):
            return seed, chosen


@pytest.mark.parametrize("part", ports.PARTS)
def test_a_port_whose_socket_is_not_ours_is_replaced(part: str) -> None:
    seed, first = unused_ports()
    place = dict(zip(ports.PARTS, ports.sockets(first), strict=True))[part]
    assert str(getattr(first, f"{part}_grpc")) in place.name
    place.touch()
    try:
        assert ports.blocked(first) == [place]
        second = ports.choose(first, random.Random(5), LOW, HIGH)
        assert ports.blocked(second) == []
        third = ports.choose(None, random.Random(seed), LOW, HIGH)  # would choose the same again
        assert ports.blocked(third) == []
    finally:
        place.unlink()
    changed = {field for field in ports.NAMES if getattr(first, field) != getattr(second, field)}
    assert changed == {"admin" if part == "admin" else f"{part}_grpc"}


def test_a_socket_of_ours_is_no_hindrance() -> None:
    first = ports.choose(None, random.SystemRandom(), LOW, HIGH)
    place = ports.sockets(first)[0]
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(place))
    try:
        assert ports.is_ours(place)
        assert ports.choose(first, random.Random(9), LOW, HIGH) == first
    finally:
        place.unlink()
    assert not ports.is_ours(place)


def test_no_free_port_is_an_error_not_a_loop() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(EmbeddedError, match="no free TCP ports"):
            ports.choose(None, random.Random(6), port, port)


def test_kept_ports_are_read_back(tmp_path: Path) -> None:
    path = tmp_path / "ports.json"
    assert ports.load(path) is None
    chosen = ports.choose(None, random.Random(7), LOW, HIGH)
    path.write_text(ports.dump(chosen))
    assert ports.load(path) == chosen


VALID = ports.dump(ports.SeaweedPorts(*range(20001, 20010))).encode()


@given(st.integers(0, len(VALID)), st.binary(max_size=20), st.integers(0, 8))
def test_a_damaged_file_gives_valid_ports_or_none(cut: int, junk: bytes, skip: int) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "ports.json"
        path.write_bytes(VALID[:cut] + junk + VALID[cut + skip :])
        found = ports.load(path)
    assert found is None or all(0 < port < 65536 for port in found.all())
