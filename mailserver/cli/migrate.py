"""`migrate`: bring the schema of the database up to date."""

import asyncio
import os
from typing import Annotated

import typer

from mailserver import log as logs
from mailserver.app import store
from mailserver.app.access import services
from mailserver.cli.target import ConfigFile, DataDir, Json, failing, show_done, show_rows
from mailserver.storage import migrate as migrations


def migrate(
    plan: Annotated[bool, typer.Option("--plan", help="Only show what would be done.")] = False,
    data_dir: DataDir = None,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Bring the schema of the database up to date; servers may run meanwhile."""

    async def work() -> list[tuple[str, str]]:
        async with services(data_dir, config, os.environ) as reach:
            database = store.open_database(reach.config, reach.backends)
            try:
                steps = migrations.plan(await migrations.current(database))
            finally:
                await database.close()
            if steps and not plan:
                await asyncio.to_thread(migrations.upgrade, reach.backends.direct_dsn())
            return steps

    logs.configure("text", "warning")
    with failing(json):
        steps = asyncio.run(work())
    if json or steps:
        show_rows([{"version": version, "change": text} for version, text in steps], json)
    else:
        show_done(json, "nothing to do")
