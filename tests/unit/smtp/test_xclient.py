"""What relays say by XCLIENT, cut and mutated."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.smtp.protocol.replies import Refused
from mailserver.smtp.protocol.xclient import MAX_VALUE, Xclient, parse

# the examples of the XCLIENT README of Postfix
EXAMPLES = [
    ("NAME=spike.porcupine.org ADDR=168.100.189.2", Xclient("168.100.189.2")),
    (
        "NAME=spike.porcupine.org ADDR=168.100.189.2 PROTO=SMTP HELO=spike",
        Xclient("168.100.189.2", "spike", None, False),
    ),
    ("NAME=[UNAVAILABLE] ADDR=[TEMPUNAVAIL]", Xclient("")),
    ("addr=IPV6:2001:db8::1 proto=esmtp", Xclient("2001:db8::1", esmtp=True)),
    ("ADDR=IPV6:::ffff:192.0.2.1 PORT=[UNAVAILABLE]", Xclient("192.0.2.1")),
    ("LOGIN=al+2Bice+40example.test", Xclient(login="al+ice@example.test")),
    ("DESTADDR=192.0.2.1 DESTPORT=25 PORT=4444", Xclient()),
]
WRONG = [
    "",
    "NAME",
    "COLOUR=blue",
    "ADDR=192.0.2.1 ADDR=192.0.2.2",
    "ADDR=192.0.2.256",
    "ADDR=IPV6:fe80::1%eth0",
    "ADDR=",
    "PORT=65536",
    "PORT=x",
    "PROTO=HTTP",
    "LOGIN=a+0Ab",
    "LOGIN=a+",
    "HELO=+FF",
    "HELO=" + "x" * (MAX_VALUE + 1),
]


@pytest.mark.parametrize(("text", "expected"), EXAMPLES)
def test_examples(text: str, expected: Xclient) -> None:
    assert parse(text) == expected


@pytest.mark.parametrize("text", WRONG)
def test_what_is_wrong_is_refused(text: str) -> None:
    with pytest.raises(Refused) as refusal:
        parse(text)
    assert refusal.value.reply.code == 501


@given(
    st.sampled_from([text for text, _ in EXAMPLES]),
    st.lists(st.tuples(st.integers(0, 80), st.text(max_size=2)), max_size=3),
)
def test_mutated_commands_are_read_or_refused(text: str, changes: list[tuple[int, str]]) -> None:
    for place, new in changes:
        text = text[:place] + new + text[place + 1 :]
    try:
        found = parse(text)
    except Refused:
        return
    if found.address:
        ipaddress.ip_address(found.address)
    for value in (found.helo, found.login):
        assert value is None or (value.isprintable() and len(value.encode()) <= MAX_VALUE)
