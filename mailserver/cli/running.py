"""`dev` and `serve`: become the server process, which checks the configuration."""

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from mailserver.app.launch import become_server
from mailserver.cli.target import ConfigFile, failing


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
    # here, since `serve` would wait for it at every start
    from mailserver.config_file import load

    with failing(json=False):
        load(environment=os.environ)  # before anything is made below `data_dir`
    become_server(["dev", str(data_dir), ports.value])


def serve(config: ConfigFile = None) -> None:
    """Run the server as the configuration says."""
    become_server(["serve", *([str(config)] if config is not None else [])])
