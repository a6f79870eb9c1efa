"""Messages are read as dnspython reads them; of what is no message nothing worse than Malformed."""

import contextlib
from typing import Any

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.dns.message import Fit, Response, fits, follow, mixed_case, question, read
from mailserver.dns.names import Malformed, read_name, write_name
from mailserver.dns.records import KINDS, Kind, MailExchanger, Service, TlsaRecord

labels = st.one_of(
    st.text("abcXYZ019-_", min_size=1, max_size=12).map(str.encode),
    st.binary(min_size=1, max_size=63),
)


@st.composite
def names(draw: st.DrawFn) -> dns.name.Name:
    """Return a name, some under others so that there is something to compress."""
    above = draw(st.sampled_from(["example.", "mail.example.", "test.", "."]))
    try:
        return dns.name.Name([*draw(st.lists(labels, max_size=3))]).concatenate(
            dns.name.from_text(above)
        )
    except dns.name.NameTooLong:
        return dns.name.from_text(above)


def number(bits: int) -> st.SearchStrategy[bytes]:
    return st.integers(0, 2**bits - 1).map(lambda value: value.to_bytes(bits // 8, "big"))


def joined(*parts: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    return st.tuples(*parts).map(b"".join)


wire_names = names().map(lambda name: name.to_wire() or b"")
strings = st.lists(st.binary(max_size=255), min_size=1, max_size=3)
data = {
    "A": st.binary(min_size=4, max_size=4),
    "AAAA": st.binary(min_size=16, max_size=16),
    "NS": wire_names,
    "PTR": wire_names,
    "CNAME": wire_names,
    "MX": joined(number(16), wire_names),
    "SRV": joined(number(16), number(16), number(16), wire_names),
    "TXT": strings.map(lambda parts: b"".join(bytes((len(part),)) + part for part in parts)),
    "TLSA": joined(number(8), number(8), st.just(b"\0"), st.binary(min_size=1, max_size=70)),
}


def records(owner: dns.name.Name, kind: str) -> st.SearchStrategy[dns.rrset.RRset]:
    def made(ttl: int, contents: list[bytes]) -> dns.rrset.RRset:
        read = [
            dns.rdata.from_wire("IN", dns.rdatatype.from_text(kind), each, 0, len(each))
            for each in contents
        ]
        return dns.rrset.from_rdata_list(owner, ttl, read)

    ttl = st.one_of(st.integers(0, 100_000), st.integers(0, 2**31 - 1))
    return st.builds(made, ttl, st.lists(data[kind], min_size=1, max_size=4))


@st.composite
def messages(draw: st.DrawFn) -> tuple[str, dns.message.Message]:
    """Return a type and an answer: aliases, records, something else, an SOA record."""
    kind = draw(st.sampled_from(sorted(KINDS)))
    owner = draw(names())
    query = dns.message.make_query(owner, kind, want_dnssec=draw(st.booleans()))
    message = dns.message.make_response(query, recursion_available=True)
    if draw(st.booleans()):
        message.flags |= dns.flags.AD
    message.set_rcode(draw(st.sampled_from([dns.rcode.NOERROR, dns.rcode.NXDOMAIN])))
    for _ in range(draw(st.integers(0, 3)) if kind != "CNAME" else 0):
        alias = draw(records(owner, "CNAME"))
        alias = dns.rrset.from_rdata(owner, alias.ttl, alias[0])
        message.answer.append(alias)
        owner = alias[0].target
    for other in draw(st.lists(st.sampled_from(sorted(data)), max_size=2)):
        message.answer.append(draw(records(draw(names()), other)))
    if draw(st.booleans()):
        message.answer.append(draw(records(owner, kind)))
    else:
        soa = f"ns.example. root.example. 1 2 3 4 {draw(st.integers(0, 10_000))}"
        message.authority.append(dns.rrset.from_text("example.", 600, "IN", "SOA", soa))
    message.answer = draw(st.permutations(message.answer))
    return kind, message


def value(record: Any) -> object:
    """Return what dnspython has read in the types of the server."""
    kind = dns.rdatatype.to_text(record.rdtype)
    if kind in ("A", "AAAA"):
        return record.address
    if kind in ("NS", "PTR", "CNAME"):
        return text(record.target)
    if kind == "MX":
        return MailExchanger(record.preference, text(record.exchange))
    if kind == "SRV":
        return Service(record.priority, record.weight, record.port, text(record.target))
    if kind == "TXT":
        return b"".join(record.strings)
    return TlsaRecord(record.usage, record.selector, record.mtype, record.cert)


def text(name: dns.name.Name) -> str:
    return name.canonicalize().to_text(omit_final_dot=True) if name != dns.name.root else ""


@given(messages())
def test_a_message_says_what_dnspython_reads(made: tuple[str, dns.message.Message]) -> None:
    kind, message = made
    wire = message.to_wire()
    theirs = dns.message.from_wire(wire)
    ours: Response[Any] = read(wire, KINDS[kind])
    assert ours.asked == text(theirs.question[0].name)
    assert ours.code == theirs.rcode()
    assert ours.secure == bool(theirs.flags & dns.flags.AD)
    for owner, found in ours.records.items():
        rrset = theirs.get_rrset(
            theirs.answer,
            dns.name.from_text(owner),
            dns.rdataclass.IN,
            dns.rdatatype.from_text(kind),
        )
        assert rrset is not None
        if dns.rdatatype.is_singleton(rrset.rdtype):  # dnspython keeps the last of several
            assert value(rrset[0]) in found
        else:
            assert set(found) == {value(record) for record in rrset}
        # a name with both: the time of whichever is shorter, which no zone has
        assert ours.ttl[owner] <= rrset.ttl
    number = dns.rdatatype.from_text(kind)
    assert set(ours.records) == {text(each.name) for each in theirs.answer if each.rdtype == number}
    if not ours.records and theirs.authority:
        assert ours.negative_ttl == min(600, theirs.authority[0][0].minimum)


@given(messages(), st.data())
def test_what_is_cut_or_changed_is_read_or_malformed(
    made: tuple[str, dns.message.Message], chance: st.DataObject
) -> None:
    kind, message = made
    wire = bytearray(message.to_wire())
    for _ in range(chance.draw(st.integers(0, 4))):
        wire[chance.draw(st.integers(0, len(wire) - 1))] = chance.draw(st.integers(0, 255))
    cut = bytes(wire[: chance.draw(st.integers(0, len(wire)))])
    for octets in (bytes(wire), cut):
        with contextlib.suppress(Malformed):
            response: Response[Any] = read(octets, KINDS[kind])
            follow(response, response.asked)


@given(st.binary(max_size=300), st.sampled_from(sorted(KINDS)))
def test_no_octets_do_harm(octets: bytes, kind: str) -> None:
    with contextlib.suppress(Malformed):
        read(octets, KINDS[kind])
    with contextlib.suppress(Malformed):
        read(b"\0\0\x81\x80\0\1\xff\xff\xff\xff\0\0" + octets, KINDS[kind])


@given(names())
def test_a_name_is_read_and_written_as_dnspython_does(name: dns.name.Name) -> None:
    wire = name.canonicalize().to_wire() or b""
    assert read_name(wire, 0) == (text(name), len(wire))
    assert write_name(text(name)) == wire


@given(st.text(st.characters(max_codepoint=127), max_size=80))
def test_a_text_is_a_name_where_dnspython_takes_it(written: str) -> None:
    try:
        theirs = dns.name.from_text(written).canonicalize().to_wire() or b""
    except (dns.exception.DNSException, ValueError):
        with pytest.raises(Malformed):
            write_name(written)
    else:
        assert written == "@" or write_name(written) == theirs


@pytest.mark.parametrize(
    "octets",
    [
        b"\xc0\x0c",  # leads to itself
        b"\xc0\x0e\xc0\x0c",  # a circle
        b"\1a\xc0\x0c",  # grows without end
        b"\x40" + 64 * b"a" + b"\0",  # no length
        b"\xff\xff",  # beyond the end
    ],
)
def test_pointers_lead_back_only(octets: bytes) -> None:
    with pytest.raises(Malformed):
        read_name(12 * b"\0" + octets, 12)


def test_the_longest_chain_of_pointers_ends() -> None:
    message = b"\0" + b"".join(
        b"\1a" + (0xC000 | at).to_bytes(2, "big") for at in [0, *range(1, 509, 4)]
    )
    assert read_name(message, 1 + 4 * 126)[0] == ".".join("a" * 127)
    with pytest.raises(Malformed, match="too long"):
        read_name(message, 1 + 4 * 127)


def record(kind: Kind[Any], ttl: int = 60, data: bytes = b"", class_: int = 1) -> bytes:
    head = b"\xc0\x0c" + kind.number.to_bytes(2, "big") + class_.to_bytes(2, "big")
    return head + ttl.to_bytes(4, "big") + len(data).to_bytes(2, "big") + data


def answer(*answers: bytes, kind: str = "A") -> bytes:
    question = b"\1a\0" + KINDS[kind].number.to_bytes(2, "big") + b"\0\1"
    head = b"\0\0\x81\x80\0\1" + len(answers).to_bytes(2, "big") + b"\0\0\0\0"
    return head + question + b"".join(answers)


def test_records_of_another_class_do_not_count() -> None:
    a = KINDS["A"]
    found = read(answer(record(a, data=b"\x7f\0\0\1", class_=3), record(a, data=b"\x7f\0\0\2")), a)
    assert found.records == {"a": ["127.0.0.2"]}


def test_a_time_with_the_first_bit_set_is_none() -> None:
    a = KINDS["A"]
    found = read(answer(record(a, 0x80000000, b"\x7f\0\0\1")), a)
    assert follow(found, "a").ttl == 0


def test_an_endless_number_of_records_is_refused() -> None:
    a = KINDS["A"]
    with pytest.raises(Malformed, match="too many"):
        read(answer(*[record(a, data=b"\x7f\0\0\1")] * 1001), a)


@given(names(), st.sampled_from(sorted(KINDS)), st.integers(0), st.booleans())
def test_a_question_is_what_dnspython_reads(
    name: dns.name.Name, kind: str, bits: int, signatures: bool
) -> None:
    wire = name.canonicalize().to_wire() or b""
    mixed = mixed_case(wire, bits & ((1 << 8 * len(wire)) - 1))
    theirs = dns.message.from_wire(
        b"\1\2" + question(mixed, KINDS[kind].number, signatures=signatures)
    )
    assert theirs.id == 0x0102
    assert theirs.question[0].name.to_wire() == mixed
    assert mixed.lower() == wire
    assert theirs.question[0].rdtype == dns.rdatatype.from_text(kind)
    assert (theirs.edns, theirs.payload, theirs.ednsflags) == (0, 1232, 0x8000 * signatures)
    assert theirs.flags == dns.flags.RD | dns.flags.AD
    answer = dns.message.make_response(theirs)
    asked = question(mixed, KINDS[kind].number, signatures=signatures)
    assert fits(answer.to_wire(), asked) is Fit.YES
    answer.flags |= dns.flags.TC
    assert fits(answer.to_wire(), asked) is Fit.CUT


@given(messages(), messages(), st.data())
def test_only_the_answer_to_a_question_fits(
    made: tuple[str, dns.message.Message],
    other: tuple[str, dns.message.Message],
    chance: st.DataObject,
) -> None:
    kind, message = made
    name = message.question[0].name.to_wire() or b""
    asked = question(name, KINDS[kind].number, signatures=True)
    assert fits(message.to_wire(), asked) is Fit.YES
    assert (
        fits(message.to_wire()[: chance.draw(st.integers(0, 12 + len(name) + 3))], asked) is Fit.NO
    )
    same = other[1].question[0].to_text().lower() == message.question[0].to_text().lower()
    assert (fits(other[1].to_wire(), asked) is Fit.NO) != same


def test_the_case_of_letters_alone_is_mixed() -> None:
    every = bytes(range(1, 64))
    name = bytes((len(every),)) + every.lower() + b"\x3f" + bytes(range(64, 127)).lower() + b"\0"
    ones = (1 << 8 * len(name)) - 1
    assert mixed_case(name, ones) == name.upper()
    assert mixed_case(name, 0) == name
