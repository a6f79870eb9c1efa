"""spamd and rspamd of Debian: scores, rules, their own verdicts, what a wrong port says."""

import asyncio
import re

from mailserver.antispam.verdict import Action
from tests.engine_programs import Program
from tests.integration.engines.conftest import GTUBE, Make, Pretend, inquiry


async def test_spamd_reports_rules_and_score(spamd: Program, make: Make) -> None:
    engine = make("spamd", spamd.address)
    assert await engine.check() == [(spamd.address, "")]
    found = await engine.judge(inquiry(GTUBE), ())
    assert (found.check, found.result, found.demand) == ("spamd", "spam", None)
    assert "GTUBE" in {symbol.name for symbol in found.symbols}
    assert found.score > 990
    assert found.seconds > 0


async def test_spamd_is_content_with_a_letter(spamd: Program, make: Make) -> None:
    found = await make("spamd", spamd.address).judge(inquiry(), ())
    assert (found.result, found.demand) == ("ham", None)
    assert found.reason.endswith(" of 5")
    assert found.score < 5


async def test_spamd_is_told_who_sent_it(spamd: Program, make: Make) -> None:
    bare = b"From: carol@example.org\r\nSubject: Hello\r\n"
    found = await make("spamd", spamd.address).judge(inquiry(header=bare), ())
    names = {symbol.name for symbol in found.symbols}
    assert not {"NO_RECEIVED", "NO_RELAYS"} & names
    assert found.result in ("ham", "spam")


async def test_spamd_scores_add_up_to_what_it_says(spamd: Program, make: Make) -> None:
    found = await make("spamd", spamd.address, weight=2).judge(inquiry(b"!!! $$$ VIAGRA\r\n"), ())
    said = float(found.reason.split()[1])
    assert abs(found.score - 2 * said) < 0.2


async def test_rspamd_reports_symbols_and_score(rspamd: Program, make: Make) -> None:
    engine = make("rspamd", rspamd.address)
    assert await engine.check() == [(rspamd.address, "")]
    found = await engine.judge(inquiry(), ())
    names = {symbol.name for symbol in found.symbols}
    assert found.result == "ham"
    assert {"FROM_EQ_ENVFROM", "RCPT_COUNT_ONE"} <= names  # it was told of the sender
    said = float(found.reason.split()[1].rstrip(","))
    assert abs(found.score - said) < 0.05


async def test_own_verdict_counts_where_that_is_wanted(
    spamd: Program, rspamd: Program, make: Make
) -> None:
    for kind, program, demand in (
        ("spamd", spamd, Action.JUNK),
        ("rspamd", rspamd, Action.REJECT),
    ):
        obeyed = await make(kind, program.address, obey=True).judge(inquiry(GTUBE), ())
        assert obeyed.demand is demand
        only_told = await make(kind, program.address).judge(inquiry(GTUBE), ())
        assert (only_told.demand, only_told.result) == (None, "spam")
        assert only_told.score >= 15


async def test_one_engine_for_many_messages_at_once(rspamd: Program, make: Make) -> None:
    engine = make("rspamd", rspamd.address)
    found = await asyncio.gather(*(engine.judge(inquiry(), ()) for _ in range(20)))
    assert {each.result for each in found} == {"ham"}


async def test_port_of_the_wrong_service_is_told(
    spamd: Program, rspamd: Program, make: Make
) -> None:
    [(_, problem)] = await make("rspamd", spamd.address).check()
    assert problem.startswith("no rspamd answers there: ")
    [(_, problem)] = await make("spamd", rspamd.address).check()
    assert problem == (
        f"no spamd answers there: {rspamd.address}: closed the connection before it had answered"
    )


async def test_a_kept_connection_that_ends_at_the_next_message(
    make: Make, pretend: Pretend
) -> None:
    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"(?i)\r\nContent-Length: (\d+)", head)
        assert length
        await reader.readexactly(int(length[1]))
        answer = b'{"score": 1.0, "action":"no action"}'
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(answer), answer))
        await reader.readuntil(b"\r\n\r\n")

    listener = await pretend(once)
    engine = make("rspamd", listener.address)
    for number in range(1, 4):
        assert (await engine.judge(inquiry(), ())).result == "ham"
        assert listener.connections == number
