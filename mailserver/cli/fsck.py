"""`fsck`: recount everything and compare rows with objects."""

from datetime import timedelta
from typing import Annotated

import typer

from mailserver.app.access import Access
from mailserver.app.exits import Exit
from mailserver.cli.target import ConfigFile, DataDir, Json, run, show_json
from mailserver.mail import fsck as checks

# An object is written a moment before its row: on a running server young ones are in between.
SETTLED = timedelta(minutes=2)


def fsck(
    objects: Annotated[
        bool, typer.Option("--objects/--no-objects", help="Look at each object in S3 too.")
    ] = True,
    contents: Annotated[
        bool, typer.Option("--contents", help="Read every body and check its hash; slow.")
    ] = False,
    data_dir: DataDir = None,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Recount everything and compare the rows with the objects, both ways."""

    async def work(store: Access) -> list[dict[str, str]]:
        settled = SETTLED if store.shared else timedelta(0)
        found = checks.check(store.mail, objects=objects, contents=contents, settled=settled)
        return [{"rule": one.rule, "detail": one.detail} async for one in found]

    differences = run(work, data_dir=data_dir, config=config, json=json)
    if json:
        show_json({"ok": not differences, "differences": differences})
    elif not differences:
        typer.echo("ok")
    else:
        for one in differences:
            typer.echo(f"not so: {one['rule']}: {one['detail']}")
        typer.echo(f"{len(differences)} differences", err=True)
    if differences:
        raise typer.Exit(Exit.FAILED)
