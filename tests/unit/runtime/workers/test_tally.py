"""The metrics of several workers are those of one server."""

from hypothesis import given
from hypothesis import strategies as st

from mailserver.metrics import Metrics
from mailserver.runtime.workers.tally import Family, lasting, merged


def value(families: list[Family], sample: str, **labels: str) -> float:
    (found,) = (
        each[2]
        for family in families
        for each in family[4]
        if each[0] == sample and each[1] == labels
    )
    return float(found)


def counted(connections: int, received: int, waiting: int) -> list[Family]:
    """Return what a worker tells that has these."""
    metrics = Metrics("m")
    metrics.connections.labels("imap").set(connections)
    metrics.messages_received.inc(received)
    metrics.queue_size.labels("waiting").set(waiting)
    metrics.command_seconds.labels("imap").observe(0.002)
    return metrics.families()


def test_counts_are_added_and_what_all_see_is_not() -> None:
    both = merged([counted(3, 10, 7), counted(4, 20, 7)])
    assert value(both, "m_connections", protocol="imap") == 7
    assert value(both, "m_messages_received_total") == 30
    assert value(both, "m_queue_size", state="waiting") == 7
    assert value(both, "m_command_seconds_count", protocol="imap") == 2
    assert value(both, "m_command_seconds_bucket", protocol="imap", le="0.0025") == 2
    assert value(both, "m_command_seconds_bucket", protocol="imap", le="0.001") == 0


def test_what_a_worker_counted_outlives_it_and_what_it_had_does_not() -> None:
    both = merged([lasting(counted(3, 10, 7)), counted(4, 20, 9)])
    assert value(both, "m_messages_received_total") == 30
    assert value(both, "m_connections", protocol="imap") == 4
    assert value(both, "m_queue_size", state="waiting") == 9


def test_the_text_is_that_of_one_process() -> None:
    one = counted(3, 10, 7)
    metrics = Metrics("m")
    text = metrics.render(merged([one]))
    assert b'\nm_connections{protocol="imap"} 3.0\n' in text
    assert b"# TYPE m_command_seconds histogram\n" in text
    assert metrics.render(one) == text


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=6))
def test_the_order_of_workers_does_not_matter(counts: list[int]) -> None:
    tallies = [counted(number, number, 0) for number in counts]
    total = merged(tallies)
    assert value(total, "m_messages_received_total") == sum(counts)
    stepwise: list[Family] = []
    for each in reversed(tallies):
        stepwise = merged([stepwise, each])
    assert value(stepwise, "m_messages_received_total") == sum(counts)
