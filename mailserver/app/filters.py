"""The checks of incoming mail that this process makes, put together as configured."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from mailserver.antispam.authentication import Rules
from mailserver.antispam.checks import Checks
from mailserver.antispam.dnsbl import DnsLists, NameLists, chosen
from mailserver.antispam.engines import build
from mailserver.antispam.engines.engine import Engine
from mailserver.antispam.engines.watch import LOOK, EngineWatch
from mailserver.antispam.gate import Gate
from mailserver.antispam.greylist import Greylist
from mailserver.antispam.helo import HeloNames
from mailserver.antispam.lists import Lists
from mailserver.antispam.maintenance import Maintenance, Sharing
from mailserver.antispam.patience import Patience
from mailserver.antispam.pipeline import Pipeline
from mailserver.antispam.ratelimit import Rates
from mailserver.antispam.sending import Brake
from mailserver.antispam.trace import Journal
from mailserver.app.background import every
from mailserver.app.content import content
from mailserver.config import Config
from mailserver.dns import Resolver
from mailserver.feedback.collecting import DmarcResults
from mailserver.feedback.tally import Tally
from mailserver.mail.context import Mail

Work = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Filters:
    """What the listeners ask, and what goes on beside them."""

    gate: Gate
    journal: Journal
    work: Mapping[str, Work]  # until the process stops, by the name of the task
    engines: Sequence[Engine] = ()

    async def close(self) -> None:
        """Write down what waits, and close what is open."""
        try:
            await self.journal.flush()
        finally:
            for engine in self.engines:
                await engine.close()


def engines(config: Config) -> list[Engine]:
    """Return the engines that look at mail, in the order of the configuration."""
    settings = config.antispam
    return build(settings.engines, config.server.hostname) if settings.enabled else []


async def filters(
    mail: Mail, resolver: Resolver, owner: str, tally: Tally | None = None
) -> Filters:
    """Return all checks, none when mail is taken as it comes, and the journal.

    The tally counts what the checks find, for reports to other domains.
    """
    settings, clock = mail.config.antispam, asyncio.get_running_loop().time
    journal = Journal(mail.database, mail.ids, mail.metrics, mail.now)
    keeper = Maintenance(settings, mail.database, mail.ids, mail.metrics, mail.now, owner)
    work: dict[str, Work] = {"trace": journal.run, "antispam": keeper.run}
    rates = Rates(mail.database, mail.now)
    brake = Brake(mail.config.sending, mail.database, rates, mail.metrics, mail.now)
    mail.brake = brake
    work["sending"] = lambda: brake.run(owner)
    learned = content(mail, owner)
    work |= learned.work
    if not settings.enabled:
        work["antispam counts"] = Sharing(rates.flush, brake.flush).run
        return Filters(Gate(journal=journal), journal, work)
    greylist = Greylist(settings.greylisting, mail.database, mail.metrics, mail.now, clock)
    work["antispam counts"] = Sharing(rates.flush, brake.flush, greylist.flush).run
    lists = chosen(settings.dns_lists, settings.dns_lists_file, settings.dns_list_keys.current())
    dns_lists = DnsLists(lists, resolver, mail.metrics) if lists else None
    if dns_lists is not None:
        work["dns lists"] = dns_lists.run
    names = [NameLists(dns_lists)] if dns_lists is not None and dns_lists.names else []
    beside = engines(mail.config)
    if beside:
        work["engines"] = every(LOOK, EngineWatch(beside, mail.metrics).look)
    checks = Checks(
        rates=rates,
        people=Lists(mail.database, clock),
        dns_lists=dns_lists,
        greylist=greylist,
        authentication=(resolver, Rules.of(mail.config)),
        patience=Patience(settings.dmarc_patience, mail.database, mail.now),
        judges=[HeloNames([mail.config.server.hostname]), *learned.judges, *names, *beside],
        personal=learned.personal,
        results=_results(mail.config, tally),
    )
    pipeline = Pipeline(settings, checks, mail.metrics, clock)
    return Filters(Gate(pipeline, journal, rates), journal, work, beside)


def _results(config: Config, tally: Tally | None) -> DmarcResults | None:
    """Return what counts results of DMARC; nobody does while no reports are sent."""
    if tally is None or not config.reports.dmarc:
        return None
    separator = config.smtp.subaddress_separator
    return DmarcResults(tally, config.reports, separator, config.antispam.junk_score)
