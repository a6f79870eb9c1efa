"""What a worker is told at its start: its place, the configuration, the sockets, the services."""

import asyncio
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from mailserver.app.backends import Backends
from mailserver.config import Config, Secret
from mailserver.runtime.embedded.barrier import syncfs
from mailserver.runtime.workers.channel import Message
from mailserver.runtime.workers.sockets import Descriptors
from mailserver.storage.place import Bucket


@dataclass(frozen=True, slots=True)
class Assignment:
    """The first message to a worker."""

    slot: int
    config: Config
    descriptors: Descriptors
    services: Mapping[str, Any] | None  # embedded ones, as `services` describes them
    accounts: Path | None = None  # the folder of the development accounts, to be made first
    initial: bool = True  # nobody serves yet: say so by HTTP, and let the first worker migrate

    @property
    def first(self) -> bool:
        """Whether this worker prepares the store for the others."""
        return self.slot == 0 or not self.initial

    def message(self) -> Message:
        """Return it as a document."""
        return {
            "slot": self.slot,
            "config": _plain(self.config),
            "descriptors": self.descriptors,
            "services": self.services,
            "accounts": None if self.accounts is None else str(self.accounts),
            "initial": self.initial,
        }

    @classmethod
    def read(cls, message: Message) -> "Assignment":
        """Read what `message` made."""
        accounts = message["accounts"]
        return cls(
            slot=message["slot"],
            config=Config.model_validate(_secrets(message["config"])),
            descriptors=message["descriptors"],
            services=message["services"],
            accounts=None if accounts is None else Path(accounts),
            initial=message["initial"],
        )


def describe(backends: Backends, data: Path) -> dict[str, Any]:
    """Describe embedded services as they are now; `data` is what a barrier makes durable."""
    return {
        "dsn": backends.dsn(),
        "bucket": asdict(backends.bucket()),
        "data": str(data),
    }


class Told:
    """Embedded services of the supervisor, whose ports may change when they start again."""

    def __init__(self, services: Mapping[str, Any]) -> None:
        self.services = services

    def backends(self) -> Backends:
        """Return how to reach them."""

        def dsn() -> str:
            return str(self.services["dsn"])

        async def barrier() -> None:
            await asyncio.to_thread(syncfs, Path(self.services["data"]))

        return Backends(dsn, dsn, lambda: Bucket(**self.services["bucket"]), barrier)


def _plain(value: object) -> object:
    """Return a part of the configuration as JSON has it; secrets with the file they come from."""
    if isinstance(value, BaseModel):
        return {name: _plain(getattr(value, name)) for name in type(value).model_fields}
    if isinstance(value, Secret):
        path = None if value.path is None else str(value.path)
        return {"secret": value.get_secret_value(), "path": path}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def _secrets(value: Any) -> Any:
    """Return what `_plain` made, with secrets again."""
    if isinstance(value, list):
        return [_secrets(item) for item in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {"secret", "path"}:
        path = value["path"]
        return Secret(value["secret"], None if path is None else Path(path))
    return {name: _secrets(item) for name, item in value.items()}
