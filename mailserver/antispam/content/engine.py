"""A compiled rule set: which rules a message meets."""

import logging
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from mailserver.antispam.content.evals import EVALS
from mailserver.antispam.content.patterns import Budget, Compile, Group, OutOfTime, Wanted
from mailserver.antispam.content.rulefile import Kind, Rule, RuleSet
from mailserver.antispam.content.views import Views
from mailserver.antispam.evidence import Symbol

log = logging.getLogger(__name__)

_EMPTY = b""


class Outcome(NamedTuple):
    """What came of the rules."""

    hits: Mapping[str, float]  # how often, by rule; internal ones too
    symbols: Sequence[Symbol]  # the rules with a score
    complete: bool  # False: there was no time for all of them


class Engine:
    """Rules ready to run."""

    def __init__(
        self,
        rules: RuleSet,
        *,
        engines: Sequence[str] = (),
        compile_rows: Compile | None = None,
    ) -> None:
        """Compile; takes seconds for thousands of rules, and is to be done off the event loop."""
        self.rules = rules
        self._compile_rows = compile_rows
        self.unusable = dict(rules.unusable)
        by_kind: dict[Kind, list[Rule]] = {kind: [] for kind in Kind}
        for rule in rules.rules.values():
            by_kind[rule.kind].append(rule)
        self._groups = {
            kind: self._group([each for each in by_kind[kind] if each.pattern], engines)
            for kind in (Kind.BODY, Kind.RAWBODY, Kind.URI, Kind.FULL)
        }
        headers = by_kind[Kind.HEADER]
        self._exists = [each for each in headers if each.selector and each.pattern is None]
        self._headers = self._by_selector([each for each in headers if each.pattern], engines)
        self._mime = self._by_selector([e for e in by_kind[Kind.MIMEHEADER] if e.pattern], engines)
        self._calls = self._known_calls()
        self._metas = self._ordered(by_kind[Kind.META])
        self._dependents = self._dependent_metas()
        self._without_hits = [each.name for each in self._metas if self._value(each, {})]

    def __len__(self) -> int:
        return len(self.rules.rules) - sum(name in self.rules.rules for name in self.unusable)

    def _group(self, rules: Sequence[Rule], engines: Sequence[str]) -> Group:
        group = Group(
            [Wanted(each.name, each.pattern, each.max_hits) for each in rules if each.pattern],
            engines=engines,
            compile_rows=self._compile_rows,
        )
        self.unusable |= group.unusable
        return group

    def _by_selector(
        self, rules: Sequence[Rule], engines: Sequence[str]
    ) -> list[tuple[str, Group, list[Rule]]]:
        """Group rules by what they look at; an unset value makes a group of its own."""
        alike: dict[tuple[str, str], list[Rule]] = {}
        for rule in rules:
            alike.setdefault((rule.selector, rule.if_unset), []).append(rule)
        return [
            (selector, self._group(some, engines), some) for (selector, _), some in alike.items()
        ]

    def _known_calls(self) -> list[Rule]:
        known = []
        for rule in self.rules.rules.values():
            if rule.call is None:
                continue
            if rule.call.function in EVALS:
                known.append(rule)
            else:
                self.unusable[rule.name] = f"no function {rule.call.function}"
        return known

    def _ordered(self, metas: Sequence[Rule]) -> list[Rule]:
        """Put metas behind those they refer to; what refers to itself in a circle is left out."""
        waiting = {each.name: each for each in metas}
        ordered: list[Rule] = []
        done: set[str] = set()
        while waiting:
            ready = [each for each in waiting.values() if not (each.names & waiting.keys()) - done]
            if not ready:
                self.unusable |= dict.fromkeys(waiting, "refers to itself")
                break
            for each in ready:
                ordered.append(waiting.pop(each.name))
                done.add(each.name)
        return ordered

    def _dependent_metas(self) -> dict[str, list[int]]:
        """Say which metas, by their place, may change when a rule is met; through others too."""
        reach: dict[str, set[int]] = {}
        for place in range(len(self._metas) - 1, -1, -1):
            meta = self._metas[place]
            beyond = reach.get(meta.name, set()) | {place}
            for name in meta.names:
                reach.setdefault(name, set()).update(beyond)
        return {name: sorted(places) for name, places in reach.items()}

    @staticmethod
    def _value(rule: Rule, hits: Mapping[str, float]) -> float:
        assert rule.expression is not None
        return rule.expression(lambda name: hits.get(name, 0.0))

    def run(self, views: Views, budget: Budget, facts: Sequence[str] = ()) -> Outcome:
        """Try all rules, or as many as there is time for; facts are met like internal rules."""
        found: dict[str, int] = dict.fromkeys(facts, 1)
        complete = True
        try:
            self._patterns(views, budget, found)
            self._functions(views, budget, found)
        except OutOfTime:
            complete = False
        hits = self._with_metas(found)
        symbols = [
            Symbol(name, rule.score, rule.description)
            for name in hits
            if (rule := self.rules.rules.get(name)) is not None and rule.score
        ]
        return Outcome(hits, symbols, complete)

    def _patterns(self, views: Views, budget: Budget, found: dict[str, int]) -> None:
        for rule in self._exists:
            if views.selected(rule.selector) is not None:
                found[rule.name] = 1
        for selector, group, rules in self._headers:
            value = views.selected(selector)
            if value is None:
                value = rules[0].if_unset.encode("utf-8", "replace")
            _look(group, rules, [value], budget, found)
        for selector, group, rules in self._mime:
            values = _mime_values(views, selector)
            _look(group, rules, values, budget, found)
        texts = {
            Kind.BODY: lambda: [views.body],
            Kind.RAWBODY: lambda: views.rawbody,
            Kind.URI: lambda: views.uris,
            Kind.FULL: lambda: [views.raw],
        }
        for kind, group in self._groups.items():
            if len(group):
                for text in texts[kind]():
                    group.find(text, budget, found)

    def _functions(self, views: Views, budget: Budget, found: dict[str, int]) -> None:
        for rule in self._calls:
            budget.check()
            call = rule.call
            assert call is not None
            if EVALS[call.function](views, call.arguments, self.rules):
                found[rule.name] = 1

    def _with_metas(self, found: Mapping[str, int]) -> dict[str, float]:
        """Add the metas that are met; only those that any hit can change are computed."""
        hits: dict[str, float] = dict(found)
        touched = {place for name in found for place in self._dependents.get(name, ())}
        hits |= dict.fromkeys(self._without_hits, 1.0)
        for place in sorted(touched):
            meta = self._metas[place]
            value = self._value(meta, hits)
            if value:
                hits[meta.name] = value
            else:
                hits.pop(meta.name, None)
        return hits


def _look(
    group: Group,
    rules: Sequence[Rule],
    values: Sequence[bytes],
    budget: Budget,
    found: dict[str, int],
) -> None:
    """Look for the rules of one header; a negated one is met when its pattern is not there."""
    here: dict[str, int] = {}
    for value in values:
        group.find(value, budget, here)
    for rule in rules:
        if rule.negated:
            if rule.name not in here and rule.name not in group.unusable and values:
                found[rule.name] = 1
        elif rule.name in here:
            found[rule.name] = here[rule.name]


def _mime_values(views: Views, selector: str) -> list[bytes]:
    """Return the values of a field in the headers of parts."""
    name = selector.split(":")[0].lower().encode()
    values = []
    for block in views.part_headers:
        for line in block.split(b"\n"):
            key, _, value = line.partition(b":")
            if key.strip().lower() == name:
                values.append(value.strip())
    return values
