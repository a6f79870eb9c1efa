"""The content filter of this process, and what goes on beside it."""

from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple

from mailserver.antispam.content.filter import PERSONAL, ContentFilter
from mailserver.antispam.content.models import ROOM, Models
from mailserver.antispam.content.patterns import available
from mailserver.antispam.content.reputation import Reputation
from mailserver.antispam.content.teacher import Teacher
from mailserver.antispam.evidence import Judge, PersonalJudge
from mailserver.app.background import every
from mailserver.app.compiler import compiler
from mailserver.app.launch import give_back
from mailserver.mail.context import Mail

HISTORY_WRITE = 10.0  # seconds between two times that the history of senders is written down
HISTORY_EXPIRY = 6 * 3600.0

Work = Callable[[], Awaitable[None]]


class Content(NamedTuple):
    """The filter, none when it is not wanted, and work until the process stops, by its name."""

    filter: ContentFilter | None
    work: Mapping[str, Work]

    @property
    def judges(self) -> list[Judge]:
        """Return what is asked about a message."""
        return [self.filter] if self.filter is not None else []

    @property
    def personal(self) -> dict[str, PersonalJudge]:
        """Return what is asked for each user, by the name in traces and metrics."""
        return {PERSONAL: self.filter} if self.filter is not None else {}


def content(mail: Mail, owner: str) -> Content:
    """Return the content filter as configured; without one, users still teach."""
    settings = mail.config.content
    models = Models(mail.database, mail.config.server.share(ROOM))
    teacher = Teacher(
        mail.database,
        mail.blobs,
        models,
        mail.metrics,
        mail.now,
        owner,
        teach_server=settings.learn_from_users,
    )
    if not (settings.enabled and mail.config.antispam.enabled):
        return Content(None, {"spam lessons": teacher.run})
    reputation = Reputation(mail.database, mail.now)
    made = ContentFilter(
        settings.folders(),
        models=models,
        reputation=reputation,
        metrics=mail.metrics,
        minimum=settings.minimum_lessons,
        budget=settings.time_budget,
        compiler=compiler if "hyperscan" in available() else None,
    )
    work = {
        "content filter": lambda: _load(made),
        "spam lessons": teacher.run,
        "sender history": every(HISTORY_WRITE, reputation.write),
        "old sender history": every(HISTORY_EXPIRY, reputation.expire),
    }
    return Content(made, work)


async def _load(made: ContentFilter) -> None:
    await made.run()
    give_back()  # what the start took
