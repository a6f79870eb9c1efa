"""Traces of the whole server, as a collector gets them."""

import base64
import http.client
import imaplib
import json
import smtplib
import ssl
import subprocess
import sys
import time
from pathlib import Path

from tests.collector import Collector, Told, collecting
from tests.integration.program.conftest import Program, Start, start_dev
from tests.running import free_port

LETTER = (
    "From: alice@example.test\r\nTo: bob@example.test\r\nSubject: secret words\r\n\r\nHello\r\n"
)


def account(program: Program, number: int) -> tuple[str, str]:
    found = program.document["accounts"][number]
    return found["login"], found["password"]


def context(program: Program) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=program.document["ca"])


def submit(program: Program) -> None:
    """Send to a user here with a report wanted: that goes through the queue."""
    host, port = program.document["listeners"]["submissions"]
    with smtplib.SMTP_SSL(host, port, context=context(program), timeout=60) as client:
        client.login(*account(program, 0))
        client.sendmail(
            account(program, 0)[0],
            [account(program, 1)[0]],
            LETTER,
            rcpt_options=["NOTIFY=SUCCESS"],
        )


def read(program: Program) -> None:
    host, port = program.document["listeners"]["imaps"]
    with imaplib.IMAP4_SSL(host, port, ssl_context=context(program), timeout=60) as client:
        client.login(*account(program, 1))
        client.select("INBOX")
        client.search(None, "ALL")
        client.select('"no such mailbox"')


def ask(program: Program) -> None:
    host, port = program.document["listeners"]["http"]
    login = base64.b64encode(":".join(account(program, 1)).encode()).decode()
    connection = http.client.HTTPConnection(host, port, timeout=60)
    calls = [["Mailbox/get", {}, "a"], ["Mailbox/get", {"accountId": "no"}, "b"]]
    body = {
        "using": ["urn:ietf:params:jmap:core", "urn:ietf:params:jmap:mail"],
        "methodCalls": calls,
    }
    headers = {"Authorization": f"Basic {login}", "Content-Type": "application/json"}
    connection.request("POST", "/jmap/api", json.dumps(body), headers)
    answer = connection.getresponse()
    assert answer.status == 200, answer.read()
    connection.close()


def above(collector: Collector, span: Told) -> list[str]:
    """Return the names of the spans that a span is in, the outermost first."""
    by_id = {each.id: each for each in collector.spans}
    names = []
    while span.parent:
        span = by_id[span.parent]
        names.append(span.name)
    return names[::-1]


def test_a_message_is_followed_to_its_delivery_and_commands_are_spans(
    start: Start, tmp_path: Path
) -> None:
    with collecting() as collector:
        program, _ = start_dev(start, tmp_path / "data", MAILSERVER_TRACING__ENDPOINT=collector.url)
        submit(program)
        # the report to the sender is a message of its own, and begins a trace
        delivery, report = sorted(collector.named("delivery", 2), key=lambda each: not each.parent)
        assert not report.parent
        (session,) = collector.named("SMTP session")
        assert delivery.trace == session.trace
        assert delivery.attributes["outcome"] == "delivered"
        assert above(collector, delivery) == ["SMTP session", "message"]
        commits = [each for each in collector.named("commit") if each.trace == session.trace]
        assert sorted(above(collector, each) for each in commits) == [
            ["SMTP session", "message"],
            ["SMTP session", "message", "delivery"],
        ]
        read(program)
        ask(program)
        assert program.stop() == 0  # and what was not told yet is told
        selected = collector.named("IMAP SELECT", 2)
        assert [each.attributes["outcome"] for each in selected] == ["ok", "no"]
        methods = collector.named("JMAP Mailbox/get", 2)
        assert [above(collector, each) for each in methods] == 2 * [["JMAP request"]]
        assert methods[1].attributes["outcome"] == "accountNotFound"
    assert {each.service for each in collector.spans} == {"mailserver"}
    told = json.dumps([each.attributes for each in collector.spans])
    assert "@" not in told
    assert "secret" not in told


def test_mail_goes_on_without_the_collector(start: Start, tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    program, _ = start_dev(start, tmp_path / "data", MAILSERVER_TRACING__ENDPOINT=url)
    submit(program)
    read(program)
    began = time.monotonic()
    assert program.stop() == 0
    assert time.monotonic() - began < 30


def test_nothing_of_it_is_loaded_unless_it_is_wanted() -> None:
    code = "import sys, mailserver.app.worker; print(*(m for m in sys.modules if 'telemetry' in m))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"
