"""The table of all commands.

Only the module of the command that is called is loaded: all of them are half a second of CPU, which
every start of the server would pay.
"""

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import typer

from mailserver.app.exits import Exit

NOUNS: dict[str, str] = {  # the module of each, which has them as `commands`
    "account": "account",
    "alias": "alias",
    "config": "config",
    "dkim": "dkim",
    "dns": "dns",
    "domain": "domain",
    "mailbox": "mailbox",
    "queue": "queue",
    "reports": "reports",
    "spam": "spam_learning",
}
VERBS: dict[str, tuple[str, str]] = {  # the module and the function of each
    "dev": ("running", "dev"),
    "serve": ("running", "serve"),
    "migrate": ("migrate", "migrate"),
    "import": ("importing", "import_mail"),
    "export": ("exporting", "export_mail"),
    "fsck": ("fsck", "fsck"),
    "doctor": ("doctor", "doctor"),
    "trace": ("trace", "trace"),
}


def application(called: str | None = None) -> typer.Typer:
    """Return the command line with the command that is called; with all when it is none of them."""
    root = typer.Typer(
        name="mailserver",
        help="A mail server: SMTP, submission, IMAP and JMAP on PostgreSQL and S3.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    root.callback()(_version)
    every = called not in VERBS and called not in NOUNS
    for name, (module, function) in VERBS.items():
        if every or name == called:
            verb: Callable[..., None] = getattr(_module(module), function)
            root.command(name)(verb)
    for name, module in NOUNS.items():
        if every or name == called:
            noun: typer.Typer = _module(module).commands
            root.add_typer(noun, name=name)
    return root


def _module(name: str) -> Any:
    return import_module(f"mailserver.cli.{name}")


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code."""
    root = application(arguments[0] if arguments else None)
    try:
        root(list(arguments), prog_name="mailserver")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else Exit.OK
    return Exit.OK


def _print_version(wanted: bool) -> None:
    if wanted:
        from mailserver import __version__

        typer.echo(f"mailserver {__version__}")
        raise typer.Exit


def _version(
    version: bool = typer.Option(
        False, "--version", is_eager=True, callback=_print_version, help="Show the version."
    ),
) -> None:
    pass
