"""DNS in memory, with the faults that DNS has."""

from collections.abc import Mapping, Sequence

from mailserver.dns import Answer, LookupFailed

MAX_CHAIN = 8  # CNAME records that are followed


class Zone:
    """Records by name and type, as a zone file has them; what is not there has no records."""

    def __init__(self, records: Mapping[tuple[str, str], Sequence[str]] = {}) -> None:
        self.records = {(name.lower(), kind): list(each) for (name, kind), each in records.items()}
        self.failing: set[tuple[str, str]] = set()  # questions that nobody answers; "*": any type
        self.asked: list[tuple[str, str]] = []
        self.is_warm = False  # everything is known at once

    def add(self, name: str, kind: str, *texts: str) -> None:
        self.records.setdefault((name.lower(), kind), []).extend(texts)

    async def texts(self, name: str, kind: str, deadline: float | None = None) -> list[str]:
        self.asked.append((name, kind))
        return self._texts(name, kind)

    def known(self, name: str, kind: str) -> list[str] | None:
        if not self.is_warm:
            return None
        try:
            return self._texts(name, kind)
        except LookupFailed:
            return None

    def _texts(self, name: str, kind: str) -> list[str]:
        name = name.lower().removesuffix(".")
        for _ in range(MAX_CHAIN):
            if (name, kind) in self.failing or (name, "*") in self.failing:
                raise LookupFailed(f"no answer for {kind} of {name}")
            found = self.records.get((name, kind))
            if found is not None:
                return list(found)
            alias = self.records.get((name, "CNAME"))
            if alias is None:
                return []
            name = alias[0].lower().removesuffix(".")
        return []

    async def a(self, name: str, deadline: float | None = None) -> Answer[str]:
        addresses = await self.texts(name, "A")
        owner = name.lower().removesuffix(".")
        exists = any(each == owner or each.endswith("." + owner) for each, _ in self.records)
        return Answer(tuple(addresses), exists)
