"""`fsck`: recount everything and compare rows with objects."""

from dataclasses import asdict
from datetime import timedelta
from typing import Annotated

import typer

from mailserver.app.access import Access
from mailserver.app.exits import Exit
from mailserver.cli.target import ConfigFile, DataDir, Json, run, show_json
from mailserver.mail import fsck as checks
from mailserver.mail import fsck_repair
from mailserver.mail.fsck import Difference

# An object is written a moment before its row: on a running server young ones are in between.
SETTLED = timedelta(minutes=2)


def fsck(
    objects: Annotated[
        bool, typer.Option("--objects/--no-objects", help="Look at each object in S3 too.")
    ] = True,
    contents: Annotated[
        bool, typer.Option("--contents", help="Read every body and check its hash; slow.")
    ] = False,
    repair: Annotated[
        bool, typer.Option("--repair", help="Set right what can be, then check.")
    ] = False,
    after_restore: Annotated[
        bool,
        typer.Option(
            "--after-restore",
            help="Repair, and let clients load all anew: PostgreSQL went back in time.",
        ),
    ] = False,
    data_dir: DataDir = None,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Recount everything and compare the rows with the objects, both ways."""

    async def work(store: Access) -> tuple[list[Difference], list[Difference]]:
        settled = SETTLED if store.shared else timedelta(0)
        repaired = []
        if after_restore:
            await fsck_repair.renumber(store.mail)
        if repair or after_restore:
            mended = fsck_repair.repair(store.mail, objects=objects, settled=settled)
            repaired = [one async for one in mended]
        found = checks.check(store.mail, objects=objects, contents=contents, settled=settled)
        return repaired, [one async for one in found]

    repaired, differences = run(work, data_dir=data_dir, config=config, json=json)
    if json:
        document = {"ok": not differences, "differences": list(map(asdict, differences))}
        show_json(
            document
            | ({"repaired": list(map(asdict, repaired))} if repair or after_restore else {})
        )
    else:
        _show(repaired, differences)
    if differences:
        raise typer.Exit(Exit.FAILED)


def _show(repaired: list[Difference], differences: list[Difference]) -> None:
    for one in repaired:
        typer.echo(f"repaired: {one.rule}: {one.detail}")
    for one in differences:
        typer.echo(f"not so: {one.rule}: {one.detail}")
    if differences:
        typer.echo(f"{len(differences)} differences", err=True)
    else:
        typer.echo("ok")
