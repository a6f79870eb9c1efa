"""`config`: check it, show it."""

import os

import typer

from mailserver.app.exits import Exit
from mailserver.cli.target import ConfigFile, Json, failing, show_done, show_json, show_rows
from mailserver.config import Secret
from mailserver.config_file import load, problems_for_service
from mailserver.errors import ConfigurationError

commands = typer.Typer(help="Check or show the configuration.", no_args_is_help=True)


@commands.command()
def check(config: ConfigFile = None, json: Json = False) -> None:
    """Say whether `serve` could run with this configuration, or what is wrong."""
    try:
        problems = problems_for_service(load(config, os.environ).config)
    except ConfigurationError as error:
        problems = str(error).splitlines()
    if not problems:
        show_done(json, "ok", ok=True, problems=[])
        return
    if json:
        show_json({"ok": False, "problems": problems})
    else:
        for problem in problems:
            typer.echo(problem, err=True)
    raise typer.Exit(Exit.CONFIGURATION)


@commands.command()
def show(config: ConfigFile = None, json: Json = False) -> None:
    """Show every key with its value in effect and where that comes from; secrets are masked."""
    with failing(json):
        loaded = load(config, os.environ)
    rows: list[dict[str, object]] = []
    for setting, value, source in loaded.values():
        if isinstance(value, Secret):
            value = "***" if value.get_secret_value() else ""
        rows.append({"key": setting.name, "value": value, "source": source})
    show_rows(rows, json)
