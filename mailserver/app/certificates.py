"""Make the development certificates in a process of its own: what makes them is needed once."""

import sys
from pathlib import Path

from mailserver import tls
from mailserver.app.child import run_module
from mailserver.app.clock import now
from mailserver.errors import ConfigurationError


async def make(directory: Path) -> tls.DevelopmentFiles:
    """Make what is missing or ends soon, and return where it is."""
    if await run_module("mailserver.app.certificates", str(directory).encode()) != 0:
        raise ConfigurationError(f"no certificates in {directory}; the reason is above")
    return tls.development_files(directory)


def main() -> None:
    """Make the certificates in the folder that comes on standard input."""
    tls.make_development_ca(Path(sys.stdin.read()), tls.DEVELOPMENT_NAMES, now())


if __name__ == "__main__":
    main()
