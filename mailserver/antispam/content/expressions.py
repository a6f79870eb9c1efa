"""Expressions over rules: the boolean arithmetic of `meta` and of conditions in rule files."""

import re
from collections.abc import Callable, Mapping

Value = float
Lookup = Callable[[str], Value]
Expression = Callable[[Lookup], Value]

DEPTH_LIMIT = 60  # nested parentheses and signs
LENGTH_LIMIT = 20_000  # characters

_TOKEN = re.compile(
    r"\s*+(?:([0-9]++(?:\.[0-9]++)?|\.[0-9]++)|([A-Za-z_][A-Za-z0-9_]*+)"
    r"|(&&|\|\||<=|>=|==|!=|[-!+*/%<>()]))"
)
_WORDS = {"and": "&&", "or": "||", "not": "!"}
# Binary operators by how strongly they bind, the weakest first: as in Perl.
_LEVELS: tuple[Mapping[str, Callable[[Value, Value], Value]], ...] = (
    {"==": lambda a, b: float(a == b), "!=": lambda a, b: float(a != b)},
    {
        "<": lambda a, b: float(a < b),
        ">": lambda a, b: float(a > b),
        "<=": lambda a, b: float(a <= b),
        ">=": lambda a, b: float(a >= b),
    },
    {"+": lambda a, b: a + b, "-": lambda a, b: a - b},
    {
        "*": lambda a, b: a * b,
        "/": lambda a, b: a / b if b else 0.0,
        "%": lambda a, b: float(int(a) % int(b)) if int(b) else 0.0,
    },
)


class BadExpression(Exception):
    """The text is no expression."""


def compile_expression(text: str) -> tuple[Expression, frozenset[str]]:
    """Return a function that computes an expression, and the names in it.

    A division by zero is zero. Raises BadExpression.
    """
    reader = _Reader(_tokens(text))
    expression = reader.any_of()
    if reader.left:
        raise BadExpression(f"unexpected {reader.left[-1]!r}")
    return expression, frozenset(reader.names)


def _tokens(text: str) -> list[str]:
    if len(text) > LENGTH_LIMIT:
        raise BadExpression("too long")
    tokens, position = [], 0
    text = text.rstrip()
    while position < len(text):
        found = _TOKEN.match(text, position)
        if found is None:
            raise BadExpression(f"unexpected {text[position : position + 10]!r}")
        word = found[1] or found[2] or found[3]
        tokens.append(_WORDS.get(word, word))
        position = found.end()
    return tokens


class _Reader:
    """Recursive descent over tokens, the next one last."""

    def __init__(self, tokens: list[str]) -> None:
        self.left = tokens[::-1]
        self.names: set[str] = set()
        self.depth = 0

    def take(self, *wanted: str) -> str | None:
        if self.left and self.left[-1] in wanted:
            return self.left.pop()
        return None

    def any_of(self) -> Expression:
        terms = [self.all_of()]
        while self.take("||"):
            terms.append(self.all_of())
        if len(terms) == 1:
            return terms[0]
        return lambda lookup: next((value for term in terms if (value := term(lookup))), 0.0)

    def all_of(self) -> Expression:
        terms = [self.binary(0)]
        while self.take("&&"):
            terms.append(self.binary(0))
        if len(terms) == 1:
            return terms[0]

        def last_of(lookup: Lookup) -> Value:
            value = 0.0
            for term in terms:
                value = term(lookup)
                if not value:
                    break
            return value

        return last_of

    def binary(self, level: int) -> Expression:
        if level == len(_LEVELS):
            return self.signed()
        left = self.binary(level + 1)
        operators = _LEVELS[level]
        while sign := self.take(*operators):
            left = _apply(operators[sign], left, self.binary(level + 1))
        return left

    def signed(self) -> Expression:
        self.depth += 1
        if self.depth > DEPTH_LIMIT:
            raise BadExpression("too deep")
        try:
            sign = self.take("!", "-", "+")
            if sign is None:
                return self.atom()
            inner = self.signed()
        finally:
            self.depth -= 1
        if sign == "!":
            return lambda lookup: float(not inner(lookup))
        return inner if sign == "+" else lambda lookup: -inner(lookup)

    def atom(self) -> Expression:
        if self.take("("):
            inner = self.any_of()
            if not self.take(")"):
                raise BadExpression("a parenthesis is not closed")
            return inner
        if not self.left or not re.match(r"[\w.]", self.left[-1]):
            raise BadExpression("a value is missing")
        word = self.left.pop()
        if word[0] in ".0123456789":
            number = float(word)
            return lambda lookup: number
        self.names.add(word)
        return lambda lookup: lookup(word)


def _apply(
    operator: Callable[[Value, Value], Value], left: Expression, right: Expression
) -> Expression:
    return lambda lookup: operator(left(lookup), right(lookup))
