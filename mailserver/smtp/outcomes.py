"""What became of the commands of a listener, in the metrics."""

from collections.abc import Callable

from mailserver.metrics import Metrics


class Outcomes:
    """Counts commands. Finding a labelled counter costs more than counting, so each is kept."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._observe = metrics.command_seconds.labels("smtp").observe
        self._count: dict[tuple[str, str], Callable[[], None]] = {}  # a few for each command

    def note(self, command: str, outcome: str, seconds: float) -> None:
        """Take note of one command; its name must be one of the table's."""
        self._observe(seconds)
        count = self._count.get((command, outcome))
        if count is None:
            count = self._metrics.commands.labels("smtp", command, outcome).inc
            self._count[command, outcome] = count
        count()
