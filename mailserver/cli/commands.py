"""The table of all commands."""

from collections.abc import Callable, Sequence

import typer

from mailserver.app.exits import Exit
from mailserver.cli import (
    account,
    alias,
    config,
    dkim,
    dns,
    doctor,
    domain,
    exporting,
    fsck,
    importing,
    mailbox,
    migrate,
    queue,
    reports,
    running,
    spam_learning,
    trace,
)

NOUNS: dict[str, typer.Typer] = {
    "account": account.commands,
    "alias": alias.commands,
    "config": config.commands,
    "dkim": dkim.commands,
    "dns": dns.commands,
    "domain": domain.commands,
    "mailbox": mailbox.commands,
    "queue": queue.commands,
    "reports": reports.commands,
    "spam": spam_learning.commands,
}
VERBS: dict[str, Callable[..., None]] = {
    "dev": running.dev,
    "serve": running.serve,
    "migrate": migrate.migrate,
    "import": importing.import_mail,
    "export": exporting.export_mail,
    "fsck": fsck.fsck,
    "doctor": doctor.doctor,
    "trace": trace.trace,
}


def application() -> typer.Typer:
    """Return the whole command line."""
    root = typer.Typer(
        name="mailserver",
        help="A mail server: SMTP, submission, IMAP and JMAP on PostgreSQL and S3.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    root.callback()(_version)
    for name, verb in VERBS.items():
        root.command(name)(verb)
    for name, noun in NOUNS.items():
        root.add_typer(noun, name=name)
    return root


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code."""
    try:
        application()(list(arguments), prog_name="mailserver")
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
