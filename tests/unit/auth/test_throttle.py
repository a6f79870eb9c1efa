"""Failures slow down whoever makes them, and nobody else for long."""

import pytest

from mailserver.auth import throttle
from mailserver.auth.throttle import (
    FIRST_DELAY,
    FORGET,
    FREE_FAILURES,
    MAX_DELAY,
    MAX_LOGIN_DELAY,
    RENEW,
    Attempt,
    Throttle,
    network_of,
)
from mailserver.errors import TooMany


def fail(brake: Throttle, login: str, peer: str, times: int) -> None:
    for _ in range(times):
        brake.failed(login, peer, 0.0)


def test_a_few_mistakes_are_free_and_then_it_gets_slow() -> None:
    brake = Throttle()
    delays = []
    for attempt in range(12):
        delays.append(brake.wait("alice", "192.0.2.1", attempt * 1000.0 / 100))
        brake.failed("alice", "192.0.2.1", attempt * 1000.0 / 100)
    assert delays[: FREE_FAILURES + 1] == [0.0] * (FREE_FAILURES + 1)
    assert delays[FREE_FAILURES + 1] == 0.5
    assert sorted(delays) == delays
    assert max(delays) == MAX_DELAY


def test_attempts_at_the_same_time_queue_and_then_are_too_many() -> None:
    brake = Throttle()
    fail(brake, "alice", "192.0.2.1", 50)
    assert [brake.wait(f"user{n}", "192.0.2.1", 0.0) for n in range(3)] == [10.0, 20.0, 30.0]
    with pytest.raises(TooMany):
        brake.wait("bob", "192.0.2.1", 0.0)
    assert brake.wait("bob", "198.51.100.1", 0.0) == 0.0


def test_strangers_cannot_lock_an_owner_out() -> None:
    brake = Throttle()
    brake.succeeded("alice", "203.0.113.5", 0.0)
    for number in range(200):
        fail(brake, "alice", f"198.51.100.{number}", 5)
    assert brake.wait("alice", "203.0.113.5", 1.0) == 0.0
    # from a place never seen before it is slow, and bounded
    assert brake.wait("alice", "192.0.2.77", 1.0) == MAX_LOGIN_DELAY


def test_a_neighbour_of_the_owner_is_braked_too() -> None:
    brake = Throttle()
    brake.succeeded("alice", "203.0.113.5", 0.0)
    fail(brake, "alice", "203.0.113.5", 10)
    assert brake.wait("alice", "203.0.113.5", 1.0) > 0
    brake.succeeded("alice", "203.0.113.5", 2.0)
    assert brake.wait("alice", "203.0.113.5", 3.0) == 0.0


def test_failures_are_forgotten() -> None:
    brake = Throttle()
    fail(brake, "alice", "192.0.2.1", 50)
    assert brake.wait("alice", "192.0.2.1", FORGET + 1) == 0.0


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throttle, "MAX_ENTRIES", 10)
    brake = Throttle()
    for number in range(100):
        brake.failed(f"user{number}", f"192.0.2.{number}", 0.0)
        brake.succeeded(f"user{number}", f"192.0.2.{number}", 0.0)
    assert len(brake._peers._counts) == 10
    assert len(brake._logins._counts) == 10
    assert len(brake._trusted) == 10


@pytest.mark.parametrize(
    ("peer", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::/64"),
        ("2001:db8::ffff:1", "2001:db8::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("unix", "unix"),
    ],
)
def test_networks(peer: str, network: str) -> None:
    assert network_of(peer) == network


def test_what_happens_in_another_process_counts_here() -> None:
    here, there = Throttle(), Throttle()
    here.forward(lambda attempt: there.hear(attempt, 0.0))
    for _ in range(FREE_FAILURES + 2):
        here.failed("alice@example.test", "192.0.2.1", 0.0)
    assert there.wait("bob@example.test", "192.0.2.1", 0.0) == FIRST_DELAY * 2
    assert there.wait("alice@example.test", "198.51.100.7", 0.0) == FIRST_DELAY * 2
    here.succeeded("alice@example.test", "198.51.100.7", 0.0)
    assert there.wait("alice@example.test", "198.51.100.7", 0.0) == 0


def test_others_are_not_told_of_every_success() -> None:
    told: list[Attempt] = []
    throttle = Throttle()
    throttle.forward(told.append)
    for now in (0.0, 1.0, 2 * RENEW):
        throttle.succeeded("alice@example.test", "2001:db8::1", now)
    assert told == [Attempt("alice@example.test", "2001:db8::/64", succeeded=True)] * 2
