"""The command line: nouns, then verbs. Each noun is a module of this package."""

from collections.abc import Sequence


def main(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code."""
    from mailserver.cli.commands import run

    return run(arguments)
