"""Rules as data, in the format of SpamAssassin (Mail::SpamAssassin::Conf, version 4).

A file is read line by line. What is not a rule (settings, plugins of the peer, translations) is
passed over; a rule that cannot be used is kept with the reason why, for `spam status` to show.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from mailserver.antispam.content.expressions import (
    BadExpression,
    Expression,
    compile_expression,
)

VERSION = 4.000001  # of the format
LINE_LIMIT = 64 * 1024  # characters of one line
RULE_LIMIT = 50_000
SCORE_SET = 2  # of four scores: with a classifier, without network tests of the rules themselves

# Plugins whose rules are understood; blocks for others are passed over.
PLUGINS = frozenset(
    f"Mail::SpamAssassin::Plugin::{name}"
    for name in (
        "BodyEval", "Check", "FreeMail", "HTMLEval", "HeaderEval", "MIMEEval", "MIMEHeader",
        "RelayEval", "ReplaceTags", "URIEval",
    )
)  # fmt: skip

# What rules ask for by `can(...)` before they use it.
FEATURES = frozenset(
    f"Mail::SpamAssassin::Conf::{name}"
    for name in ("feature_bug6558_free", "perl_min_version_5010000", "feature_registryboundaries")
)

_LINE_CONTINUED = re.compile(r"\\\n")
_COMMENT = re.compile(r"(?<!\\)#.*")
_FUNCTION = re.compile(r"\b(plugin|can|has)\s*\(\s*([\w:]+)\s*\)")
_NUMBER = re.compile(r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)\Z")
_NAME = re.compile(r"[A-Za-z_]\w*\Z")
_CALL = re.compile(r"eval:(\w+)\s*(?:\((.*)\))?\s*\Z", re.DOTALL)
_ARGUMENT = re.compile(r"""\s*(?:'([^']*)'|"([^"]*)"|([^,\s'"]+))\s*(?:,|\Z)""")
_TEST = re.compile(r"(\S+)\s*([=!]~)\s*(.*)\Z", re.DOTALL)
_IF_UNSET = re.compile(r"\s+\[if-unset:\s*(.*?)\]\s*\Z", re.DOTALL)
_FLAGS = re.compile(r"[imsxoagu]*\Z")
_CLOSING = {"{": "}", "(": ")", "[": "]", "<": ">"}
_REPLACED = re.compile(r"<([A-Za-z0-9_]+)>")
_FIXES = re.compile(r"<(inter|pre|post)\s+([A-Za-z0-9_]+)>")


class Kind(StrEnum):
    """What a rule looks at."""

    HEADER = "header"
    BODY = "body"
    RAWBODY = "rawbody"
    URI = "uri"
    FULL = "full"
    MIMEHEADER = "mimeheader"
    META = "meta"


@dataclass(frozen=True, slots=True)
class Pattern:
    """A regular expression, as written between its delimiters."""

    source: str
    flags: str = ""  # letters of Perl: i, m, s, x


@dataclass(frozen=True, slots=True)
class Call:
    """A test that is a function."""

    function: str
    arguments: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule; it has a pattern, a call, or an expression, or only a header that must exist."""

    name: str
    kind: Kind
    selector: str = ""  # header rules: "Subject", "From:addr", "ALL"
    pattern: Pattern | None = None
    negated: bool = False
    if_unset: str = ""
    call: Call | None = None
    expression: Expression | None = None
    names: frozenset[str] = frozenset()  # of the rules in the expression
    score: float = 0.0
    description: str = ""
    max_hits: int = 1  # above 1 a pattern is counted

    @property
    def internal(self) -> bool:
        """Whether it is only there for other rules."""
        return self.name.startswith("__")


@dataclass(slots=True)
class RuleSet:
    """All rules of some files, and what could not be used."""

    rules: dict[str, Rule] = field(default_factory=dict)
    unusable: dict[str, str] = field(default_factory=dict)  # why, by the name of the rule
    freemail: frozenset[str] = frozenset()  # domains where anybody gets an address; "*" is a label


class BadRule(Exception):
    """A line is not a rule that can be used."""


def load(paths: Iterable[Path]) -> RuleSet:
    """Read files, and the `*.cf` files of folders in the order of their names."""
    reader = RuleReader()
    for path in paths:
        files = sorted(path.glob("*.cf")) if path.is_dir() else [path]
        for each in files:
            reader.read(each.read_text("utf-8", "replace"))
    return reader.finish()


class _Condition(NamedTuple):
    """An `if` around lines."""

    text: str
    holds: bool


class RuleReader:
    """Reads rule files one after the other; later lines win."""

    def __init__(self) -> None:
        self._rules: dict[str, Rule] = {}
        self._scores: dict[str, float] = {}
        self._texts: dict[str, str] = {}
        self._tflags: dict[str, frozenset[str]] = {}
        self._unusable: dict[str, str] = {}
        self._freemail: set[str] = set()
        self._replaced: set[str] = set()
        self._tags: dict[str, dict[str, str]] = {"tag": {}, "inter": {}, "pre": {}, "post": {}}

    def read(self, text: str) -> None:
        """Take the lines of one file."""
        conditions: list[_Condition] = []
        for line in _LINE_CONTINUED.sub(" ", text).splitlines():
            line = _COMMENT.sub("", line[:LINE_LIMIT]).replace("\\#", "#").strip()
            if not line:
                continue
            keyword, _, rest = line.partition(" ") if " " in line else line.partition("\t")
            keyword, _, more = keyword.partition("\t")
            rest = f"{more} {rest}".strip() if more else rest.strip()
            if self._condition(keyword, rest, conditions):
                continue
            unmet = next((each for each in conditions if not each.holds), None)
            if unmet is not None:
                self._pass_over(keyword, rest, unmet)
                continue
            reader = _READERS.get(keyword)
            if reader is not None:
                reader(self, keyword, rest)

    def finish(self) -> RuleSet:
        """Return the rules with their scores."""
        found: dict[str, Rule] = {}
        unusable = dict(self._unusable)
        for name, rule in self._rules.items():
            flags = self._tflags.get(name, frozenset())
            if "net" in flags or "learn" in flags:
                unusable[name] = "asks the network or another classifier"
                continue
            if name in self._replaced and rule.pattern is not None:
                rule = _with(rule, pattern=self._expanded(rule.pattern))
            found[name] = _with(
                rule,
                score=self._score(name, flags),
                description=self._texts.get(name, ""),
                max_hits=_max_hits(flags),
            )
        return RuleSet(found, unusable, frozenset(self._freemail))

    def _condition(self, keyword: str, rest: str, conditions: list["_Condition"]) -> bool:
        if keyword in ("if", "ifplugin"):
            holds = rest in PLUGINS if keyword == "ifplugin" else _holds(rest)
            conditions.append(_Condition(rest, holds))
        elif keyword == "else" and conditions:
            conditions[-1] = _Condition(f"not {conditions[-1].text}", not conditions[-1].holds)
        elif keyword == "endif" and conditions:
            conditions.pop()
        else:
            return keyword in ("else", "endif")
        return True

    def _pass_over(self, keyword: str, rest: str, unmet: "_Condition") -> None:
        """Note a rule under a condition that does not hold."""
        if keyword in _KINDS and len(self._unusable) < RULE_LIMIT:
            name = rest.split(None, 1)[0] if rest else ""
            if _NAME.match(name) and name not in self._rules:
                self._unusable[name] = f"needs {unmet.text[:80]}"

    def _score(self, name: str, flags: frozenset[str]) -> float:
        if name.startswith("__"):
            return 0.0
        score = self._scores.get(name)
        if score is not None:
            return score
        if name.startswith("T_"):
            return -0.01 if "nice" in flags else 0.01
        return -1.0 if "nice" in flags else 1.0

    def _expanded(self, pattern: Pattern) -> Pattern:
        """Put in what `replace_tag` says, letter by letter (plugin ReplaceTags)."""
        fixes = {kind: "" for kind in ("inter", "pre", "post")}

        def fix(found: re.Match[str]) -> str:
            fixes[found[1]] = self._tags[found[1]].get(found[2], "")
            return ""

        source = _FIXES.sub(fix, pattern.source)
        tags = self._tags["tag"]
        for _ in range(3):  # a tag may be made of others
            pieces: list[str] = []
            position = 0
            for found in _REPLACED.finditer(source):
                if found[1] not in tags:
                    continue
                pieces.append(source[position : found.start()])
                pieces.append(fixes["pre"] + tags[found[1]] + fixes["post"])
                if source[found.end() : found.end() + 1] == "<":
                    pieces.append(fixes["inter"])
                position = found.end()
            if not pieces:
                break
            source = "".join(pieces) + source[position:]
        return Pattern(source, pattern.flags)

    # Readers of lines, by keyword --------------------------------------------------------------

    def _rule(self, keyword: str, rest: str) -> None:
        name, _, body = rest.replace("\t", " ", 1).partition(" ")
        if not _NAME.match(name) or len(self._rules) >= RULE_LIMIT:
            return
        self._unusable.pop(name, None)
        try:
            self._rules[name] = parse_rule(name, Kind(keyword), body.strip())
        except (BadRule, BadExpression) as error:
            self._rules.pop(name, None)
            self._unusable[name] = str(error)

    def _set_score(self, keyword: str, rest: str) -> None:
        name, *numbers = rest.split() or [""]  # it may be some other white space
        values = [each.strip("()") for each in numbers]
        if all(map(_NUMBER.match, values)) and len(values) in (1, 4):
            score = float(values[SCORE_SET if len(values) == 4 else 0])
            relative = bool(numbers) and numbers[0].startswith("(")
            self._scores[name] = self._scores.get(name, 0.0) + score if relative else score

    def _describe(self, keyword: str, rest: str) -> None:
        name, _, text = rest.replace("\t", " ", 1).partition(" ")
        self._texts[name] = text.strip()

    def _flag(self, keyword: str, rest: str) -> None:
        name, *flags = rest.split() or [""]
        self._tflags[name] = frozenset(flags)

    def _free(self, keyword: str, rest: str) -> None:
        self._freemail.update(rest.lower().split())

    def _replace_rules(self, keyword: str, rest: str) -> None:
        self._replaced.update(rest.split())

    def _replace_tag(self, keyword: str, rest: str) -> None:
        tag, _, value = rest.replace("\t", " ", 1).partition(" ")
        self._tags[keyword.removeprefix("replace_")][tag] = value.strip()


_KINDS = frozenset(Kind)
_READERS: dict[str, Callable[[RuleReader, str, str], None]] = {
    **{kind.value: RuleReader._rule for kind in Kind},
    "score": RuleReader._set_score,
    "describe": RuleReader._describe,
    "tflags": RuleReader._flag,
    "freemail_domains": RuleReader._free,
    "replace_rules": RuleReader._replace_rules,
    "replace_tag": RuleReader._replace_tag,
    "replace_inter": RuleReader._replace_tag,
    "replace_pre": RuleReader._replace_tag,
    "replace_post": RuleReader._replace_tag,
}


def parse_rule(name: str, kind: Kind, body: str) -> Rule:
    """Read what stands behind the name of a rule; BadRule or BadExpression when it is none."""
    if kind is Kind.META:
        expression, names = compile_expression(body)
        return Rule(name, kind, expression=expression, names=names)
    if body.startswith("eval:"):
        return Rule(name, kind, call=_call(body))
    if kind not in (Kind.HEADER, Kind.MIMEHEADER):
        return Rule(name, kind, pattern=parse_pattern(body))
    if body.startswith("exists:"):
        return Rule(name, kind, selector=body[7:].strip())
    unset = _IF_UNSET.search(body)
    if unset:
        body = body[: unset.start()]
    test = _TEST.match(body)
    if test is None:
        raise BadRule("neither =~ nor !~")
    return Rule(
        name,
        kind,
        selector=test[1],
        pattern=parse_pattern(test[3]),
        negated=test[2] == "!~",
        if_unset=unset[1] if unset else "",
    )


def parse_pattern(text: str) -> Pattern:
    """Read /.../flags or m{...}flags."""
    text = text.strip()
    start = 1
    if text.startswith("m") and len(text) > 2 and not text[1].isalnum():
        start = 2
    elif not text.startswith("/"):
        raise BadRule("no regular expression")
    closing = _CLOSING.get(text[start - 1], text[start - 1])
    end = text.rfind(closing)
    if end < start:
        raise BadRule("the regular expression does not end")
    flags = text[end + 1 :].strip()
    if not _FLAGS.match(flags):
        raise BadRule(f"unknown flags {flags[:20]!r}")
    source = text[start:end]
    if closing == text[start - 1] and closing != "\\":
        # a delimiter that means nothing in a regular expression stands there for itself
        source = source.replace(
            "\\" + closing, closing if closing in "/!,%@#~'\"" else "\\" + closing
        )
    return Pattern(source, "".join(sorted(set(flags) & set("imsx"))))


def _call(body: str) -> Call:
    found = _CALL.match(body)
    if found is None:
        raise BadRule("a call cannot be read")
    arguments = [
        next(group for group in each.groups(default=None) if group is not None)
        for each in _ARGUMENT.finditer(found[2] or "")
    ]
    return Call(found[1], tuple(arguments))


def _holds(text: str) -> bool:
    """Tell whether the condition of an `if` holds here; one that cannot be read does not."""

    def known(found: re.Match[str]) -> str:
        names = PLUGINS if found[1] == "plugin" else FEATURES
        return "1" if found[2] in names else "0"

    values = {"version": VERSION, "perl_version": 5.036, "true": 1.0}
    try:
        expression, _ = compile_expression(_FUNCTION.sub(known, text))
    except BadExpression:
        return False
    return bool(expression(lambda name: values.get(name, 0.0)))


def _max_hits(flags: frozenset[str]) -> int:
    if "multiple" not in flags:
        return 1
    for flag in flags:
        if flag.startswith("maxhits=") and flag[8:].isdigit():
            return max(1, min(int(flag[8:]), 100))
    return 20


def _with(rule: Rule, **values: object) -> Rule:
    return replace(rule, **values)  # type: ignore[arg-type]


def selectors(rules: Sequence[Rule]) -> frozenset[str]:
    """Return the selectors that rules use."""
    return frozenset(rule.selector for rule in rules if rule.selector)
