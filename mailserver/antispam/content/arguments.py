"""What tests that are functions take: the message, arguments from the rule file, all rules."""

from collections.abc import Callable, Sequence

from mailserver.antispam.content.rulefile import RuleSet
from mailserver.antispam.content.views import Views

Eval = Callable[[Views, Sequence[str], RuleSet], bool]


def numbers(arguments: Sequence[str], count: int) -> list[float | None]:
    """Return that many arguments as numbers, None for what is none."""
    found: list[float | None] = []
    for text in list(arguments)[:count] + [""] * (count - len(arguments)):
        try:
            found.append(float(text))
        except ValueError:
            found.append(None)
    return found


def between(value: float, least: float | None, most: float | None) -> bool:
    """Tell whether a value is within bounds; None is no bound."""
    return (least is None or value >= least) and (most is None or value <= most)


def organisation(domain: str) -> str:
    """Return the part of a domain that is registered, guessed by its form."""
    labels = domain.split(".")
    count = 3 if len(labels) > 2 and len(labels[-2]) <= 3 and len(labels[-1]) == 2 else 2
    return ".".join(labels[-count:])
