"""Programs beside this server that look at mail: one table from kind to class."""

from collections.abc import Iterable
from importlib import import_module

from mailserver.antispam.engines.engine import Engine
from mailserver.config import Engine as Settings

# By name: a program that nobody uses costs no memory.
ENGINES = {
    "clamd": ("mailserver.antispam.engines.clamd", "Clamd"),
    "icap": ("mailserver.antispam.engines.icap", "Icap"),
    "milter": ("mailserver.antispam.engines.milter", "Milter"),
    "rspamd": ("mailserver.antispam.engines.rspamd", "Rspamd"),
    "spamd": ("mailserver.antispam.engines.spamd", "Spamd"),
}


def build(engines: Iterable[Settings], hostname: str) -> list[Engine]:
    """Return the engines of a configuration, in its order; they are asked in that order too."""
    return [_class(each.kind)(each, hostname) for each in engines]


def _class(kind: str) -> type[Engine]:
    module, name = ENGINES[kind]
    found: type[Engine] = getattr(import_module(module), name)
    return found
