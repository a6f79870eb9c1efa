"""DNS from a dictionary, for checks that ask for addresses."""

from mailserver.dns import Answer, LookupFailed


class Zone:
    """Answers what is in `addresses`; a name in `failing` gets no answer."""

    def __init__(self, **addresses: str) -> None:
        self.addresses: dict[str, tuple[str, ...]] = {}
        self.failing: set[str] = set()
        self.asked: list[str] = []

    def add(self, name: str, *addresses: str) -> None:
        self.addresses[name] = addresses

    async def a(self, name: str) -> Answer[str]:
        self.asked.append(name)
        if any(name.endswith(each) for each in self.failing):
            raise LookupFailed.of(name, "A", "timeout")
        records = self.addresses.get(name, ())
        return Answer(records, exists=bool(records))
