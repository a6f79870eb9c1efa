"""`dev` and `serve`: check the arguments, then become the server process."""

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from mailserver.app.launch import become_server
from mailserver.cli.target import ConfigFile, failing
from mailserver.config_file import load, problems_for_service
from mailserver.errors import ConfigurationError


class Ports(StrEnum):
    """Which ports a development server takes."""

    DEFAULT = "default"
    FREE = "free"


def dev(
    data_dir: Annotated[
        Path, typer.Option("--data-dir", help="Where everything is kept; made when missing.")
    ] = Path(".data"),
    ports: Annotated[
        Ports, typer.Option(help="The documented ports, or any that are free.")
    ] = Ports.DEFAULT,
) -> None:
    """Run the whole server on this machine, with its own PostgreSQL and S3, to try it."""
    with failing(json=False):
        load(environment=os.environ)
    become_server(["dev", str(data_dir), ports.value])


def serve(config: ConfigFile = None) -> None:
    """Run the server as the configuration says."""
    with failing(json=False):
        problems = problems_for_service(load(config, os.environ).config)
        if problems:
            raise ConfigurationError("\n".join(problems))
    become_server(["serve", *([str(config)] if config is not None else [])])
