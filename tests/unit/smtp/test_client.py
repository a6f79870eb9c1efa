"""The client's side of SMTP: replies out of bytes, parameters, and the order of a transaction."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.smtp.protocol.client import (
    MAX_LINE,
    MAX_LINES,
    Envelope,
    Extensions,
    NotSmtp,
    RecipientLine,
    ReplyBuffer,
    ServerReply,
    Step,
    Transaction,
    Unsendable,
    chunks,
    joined,
    mail_line,
    needs_smtputf8,
    path,
    rcpt_line,
    stuffed,
)

EVERYTHING = Extensions.of(
    ServerReply(
        250,
        (
            "mx.example.org", "PIPELINING", "SIZE 1000", "8BITMIME", "SMTPUTF8", "DSN",
            "CHUNKING", "REQUIRETLS", "AUTH PLAIN LOGIN", "AUTH=LOGIN XTEST",
            "LIMITS RCPTMAX=20 MAILMAX=0",
        ),
    )
)  # fmt: skip
OK = ServerReply(250, ("2.0.0 ok",))
NO = ServerReply(550, ("5.1.1 no",))
GO = ServerReply(354, ("go",))


def parsed(data: bytes, size: int = 1 << 20) -> list[ServerReply]:
    buffer = ReplyBuffer()
    replies = []
    for start in range(0, len(data), size):
        buffer.feed(data[start : start + size])
        while (reply := buffer.next()) is not None:
            replies.append(reply)
    return replies


def test_replies_of_one_line_and_of_several() -> None:
    assert parsed(b"220 hello\r\n250-one\r\n250-two\r\n250 three\r\n354\r\n") == [
        ServerReply(220, ("hello",)),
        ServerReply(250, ("one", "two", "three")),
        ServerReply(354, ("",)),
    ]


@given(st.integers(1, 40))
def test_replies_do_not_depend_on_how_the_bytes_come(size: int) -> None:
    data = b"250-mx.example.org\r\n250 SIZE 10\r\n550-5.1.1 no\r\n550 5.1.1 such user\n"
    assert parsed(data, size) == parsed(data)


def test_time_and_priority_go_to_who_knows_them() -> None:
    knowing = Extensions({"DELIVERBY": "100", "MT-PRIORITY": ""})
    returned = Envelope("a@example.org", (), 5, by=120, by_mode="RT", priority=3)
    assert mail_line(returned, knowing) == b"MAIL FROM:<a@example.org> BY=120;RT MT-PRIORITY=3\r\n"
    for envelope, extensions, status in (
        (returned, Extensions(), "5.3.3"),  # it may keep the message for days
        (replace(returned, by=99), knowing, "5.4.7"),
        (replace(returned, by=0), knowing, "5.4.7"),
    ):
        with pytest.raises(Unsendable) as refused:
            mail_line(envelope, extensions)
        assert refused.value.status == status
    told = replace(returned, by=-10, by_mode="N", priority=0)
    assert mail_line(told, knowing) == b"MAIL FROM:<a@example.org> BY=-10;N\r\n"
    assert mail_line(told, Extensions()) == b"MAIL FROM:<a@example.org>\r\n"


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 400 Bad Request\r\n",
        b"250-one\r\n251 two\r\n",
        b"199 no\r\n",
        b"25\r\n",
        b"250_x\r\n",
        b"x" * (MAX_LINE + 2),
        b"250-x\r\n" * (MAX_LINES + 1),
    ],
)
def test_what_is_no_reply_is_told_so(data: bytes) -> None:
    with pytest.raises(NotSmtp):
        parsed(data)


@given(st.binary(max_size=200), st.integers(1, 50))
def test_any_bytes_are_replies_or_not_smtp(data: bytes, size: int) -> None:
    try:
        for reply in parsed(data, size):
            assert 200 <= reply.code <= 599
            assert str(reply).isprintable()
    except NotSmtp:
        pass


def test_a_reply_on_one_line_says_its_status_once() -> None:
    reply = ServerReply(550, ("5.1.1 no such", "5.1.1 user \x1bhere"))
    assert str(reply) == "550 5.1.1 no such user \x1bhere"
    assert reply.status == "5.1.1"
    assert ServerReply(450, ("5.1.1 odd",)).status == "4.0.0"
    assert ServerReply(250, ()).status == "2.0.0"
    assert parsed(b"250 a\x1bb\x00c\r\n")[0].lines == ("a b c",)


def test_extensions_are_read() -> None:
    assert EVERYTHING.size == 1000
    assert EVERYTHING.mechanisms == ("PLAIN", "LOGIN", "LOGIN", "XTEST")
    assert EVERYTHING.limit("RCPTMAX") == 20
    assert EVERYTHING.limit("MAILMAX") is None
    assert Extensions.of(ServerReply(250, ("x", "SIZE 0", "LIMITS RCPTMAX=x"))).size is None
    assert Extensions().limit("RCPTMAX") is None


def test_parameters_go_to_who_knows_them() -> None:
    envelope = Envelope(
        "a@example.org", (), 500, eight_bit=True, envid="x+2By", ret="HDRS", require_tls=True
    )
    assert mail_line(envelope, EVERYTHING) == (
        b"MAIL FROM:<a@example.org> SIZE=500 BODY=8BITMIME REQUIRETLS RET=HDRS ENVID=x+2By\r\n"
    )
    with pytest.raises(Unsendable) as refused:
        mail_line(envelope, Extensions())
    assert refused.value.status == "5.7.30"
    assert mail_line(Envelope("", (), 5), Extensions()) == b"MAIL FROM:<>\r\n"
    recipient = RecipientLine("b@example.org", "SUCCESS,DELAY", "rfc822;b@example.org")
    assert rcpt_line(recipient, envelope, EVERYTHING) == (
        b"RCPT TO:<b@example.org> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;b@example.org\r\n"
    )
    assert rcpt_line(recipient, envelope, Extensions()) == b"RCPT TO:<b@example.org>\r\n"


@pytest.mark.parametrize(
    "text",
    [
        "a@b\r\nRCPT TO:<c@d>", "a b@c", "a@b c", "a>@b", '"a\nb"@c', "@c", "nobody", "a@b>",
        "a\x00@b",
    ],
)  # fmt: skip
def test_an_address_cannot_smuggle_commands(text: str) -> None:
    with pytest.raises(Unsendable):
        path(text, True)


def test_internationalised_addresses() -> None:
    assert path("a@bücher.example", False) == "a@xn--bcher-kva.example"
    assert path("a@bücher.example", True) == "a@bücher.example"
    assert path('"a b"@c.example', False) == '"a b"@c.example'
    with pytest.raises(Unsendable):
        path("grün@c.example", False)
    with pytest.raises(Unsendable):
        path(f"a@{'ü' * 70}.example", False)
    with pytest.raises(Unsendable):
        mail_line(Envelope("grün@c.example", (), 5, smtputf8=True), Extensions())
    assert not needs_smtputf8("a@bücher.example", ["b@c.example"], True)
    assert needs_smtputf8("a@c.example", ["grün@c.example"], True)
    assert needs_smtputf8("a@c.example", ["b@c.example"], False)


def envelope(*names: str, size: int = 100) -> Envelope:
    return Envelope("a@x.example", tuple(RecipientLine(f"{n}@y.example") for n in names), size)


def run(transaction: Transaction, replies: list[ServerReply]) -> list[list[Step]]:
    """Play a transaction against replies; return what was sent in each turn."""
    turns = []
    waiting = iter(replies)
    while steps := transaction.send():
        turns.append(steps)
        for step in steps:
            transaction.line(step)
        while transaction.awaits is not None:
            transaction.take(next(waiting))
    return turns


def test_small_mail_goes_out_in_one_turn_by_bdat() -> None:
    transaction = Transaction(envelope("b", "c"), EVERYTHING, reset=True)
    turns = run(transaction, [OK, OK, OK, NO, OK])
    assert turns == [[Step.RSET, Step.MAIL, Step.RCPT, Step.RCPT, Step.CONTENT]]
    assert transaction.verdicts() == [OK, NO]
    assert not transaction.open


def test_large_mail_waits_for_its_recipients() -> None:
    transaction = Transaction(envelope("b", size=1 << 20), EVERYTHING)
    assert run(transaction, [OK, NO]) == [[Step.MAIL, Step.RCPT]]
    assert transaction.verdicts() == [NO]
    assert transaction.open


def test_data_is_pipelined_up_to_the_content() -> None:
    extensions = Extensions({"PIPELINING": ""})
    transaction = Transaction(envelope("b"), extensions)
    turns = run(transaction, [OK, OK, GO, OK])
    assert turns == [[Step.MAIL, Step.RCPT, Step.DATA], [Step.CONTENT]]
    assert transaction.sends_message
    refused = Transaction(envelope("b"), extensions)
    # RFC 2920 §3.1: 354 without a recipient is answered by an empty message
    assert run(refused, [OK, NO, GO, NO])[1] == [Step.CONTENT]
    assert not refused.sends_message
    assert refused.verdicts() == [NO]


def test_without_pipelining_each_command_waits() -> None:
    transaction = Transaction(envelope("b", "c"), Extensions())
    turns = run(transaction, [OK, NO, OK, GO, OK])
    assert turns == [[Step.MAIL], [Step.RCPT], [Step.RCPT], [Step.DATA], [Step.CONTENT]]
    assert transaction.verdicts() == [NO, OK]
    refused = Transaction(envelope("b", "c"), Extensions())
    assert run(refused, [NO]) == [[Step.MAIL]]
    assert refused.verdicts() == [NO, NO]
    late = Transaction(envelope("b"), Extensions())
    assert run(late, [OK, OK, NO]) == [[Step.MAIL], [Step.RCPT], [Step.DATA]]
    assert late.verdicts() == [NO]


@given(st.lists(st.sampled_from([b"\r\n", b".", b"..", b"a", b"\r\n.", b"x" * 9]), max_size=30))
def test_stuffing_can_be_undone(parts: list[bytes]) -> None:
    content = b"".join(parts)
    sent = b"".join(stuffed(content))
    assert sent.endswith(b"\r\n.\r\n") or sent == b".\r\n"
    body = (b"\r\n" + sent).removesuffix(b".\r\n")
    assert b"\r\n.\r\n" not in body
    unstuffed = body.replace(b"\r\n..", b"\r\n.")[2:]
    assert unstuffed == content + (b"" if content.endswith(b"\r\n") or not content else b"\r\n")


def test_small_pieces_are_written_together() -> None:
    assert list(joined(b"BDAT 3 LAST\r\n", [b"a", b"bc"])) == [b"BDAT 3 LAST\r\nabc"]
    large = b"x" * 300_000
    assert list(joined(b"a", [large, b"b"])) == [b"a", large, b"b"]


def test_pieces_never_end_between_a_line_end_and_a_dot() -> None:
    content = (b"x" * (256 * 1024 - 1) + b"\r\n.hidden\r\n") * 3
    assert b"".join(stuffed(content)) == content.replace(b"\r\n.", b"\r\n..") + b".\r\n"
    assert b"".join(chunks(content)) == content
