"""Expression: comparisons over the summary of a run, such as `p99(step_duration) < 2.0 and max(loss) < 9`.

    condition  = comparison | condition and condition | condition or condition | not condition
    comparison = number (< <= > >= == !=) number, chained as in Python
    number     = 2.0 | -number | number (+ - * /) number | function(metric)
    function   = p50 p90 p95 p99 p999 min max mean std last first count sum nonfinite
    metric     = name | "any/name" | "name", tag="value", …

Python's parser reads it, only whitelisted nodes are accepted, and nothing is ever run: no `eval`. Numbers
are float64 and follow IEEE 754 as numpy's do: 1 / 0 is infinite, and NaN compares false with everything.
"""

from __future__ import annotations

import ast
import math
import operator
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from entrenar_processors.stats.summary import Summaries, Summary

MAX_CHARACTERS, MAX_DEPTH, MAX_NODES = 2_000, 40, 400

#: The percentiles, each as a quantile in [0, 1].
QUANTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p999": 0.999}
FUNCTIONS = (*QUANTILES, "min", "max", "mean", "std", "last", "first", "count", "sum", "nonfinite")
#: Functions that only rise (1), or only fall (-1), while a run goes on.
_COURSE = {"max": 1, "count": 1, "nonfinite": 1, "min": -1}

_COMPARE: dict[type[ast.cmpop], tuple[str, Callable[[float, float], bool]]] = {
    ast.Lt: ("<", operator.lt),
    ast.LtE: ("<=", operator.le),
    ast.Gt: (">", operator.gt),
    ast.GtE: (">=", operator.ge),
    ast.Eq: ("==", operator.eq),
    ast.NotEq: ("!=", operator.ne),
}


class Term(NamedTuple):
    """One function of one metric: `last(accuracy, split="validation")`."""

    function: str
    metric: str
    tags: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        name = self.metric if self.metric.isidentifier() and not self.tags else f'"{self.metric}"'
        inner = ", ".join([name, *(f'{key}="{value}"' for key, value in self.tags)])
        return f"{self.function}({inner})"


#: From function, metric and tags to the number; None where it was not measured.
Lookup = Callable[[str, str, Mapping[str, str]], float | None]


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome of an expression. `holds` is None where a number that would decide it was not measured."""

    holds: bool | None
    terms: tuple[tuple[Term, float | None], ...]

    @property
    def missing(self) -> tuple[Term, ...]:
        return tuple(term for term, value in self.terms if value is None)

    def __str__(self) -> str:
        return ", ".join(
            f"{term} {'was not measured' if value is None else f'= {value:.6g}'}"
            for term, value in self.terms
        )


def _divide(a: float, b: float) -> float:
    if b:
        return a / b
    return math.nan if a == 0 or a != a else math.copysign(math.inf, a) * math.copysign(1.0, b)


_ARITHMETIC: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: _divide,
}

_Values = Mapping[Term, float | None]
_Number = Callable[[_Values], float | None]
_Condition = Callable[[_Values], bool | None]


@dataclass(frozen=True)
class Expression:
    """A condition that was read by `parse`.

    `is_final`: once it is false it stays false, however the run goes on, since every number in it only
    rises or only falls. `max(loss) < 9` is final, `p99(loss) < 9` is not.

    >>> expression = parse("p99(step_duration) < 2.0 and not max(gradient_norm) > 100")
    >>> expression.metrics
    ('gradient_norm', 'step_duration')
    >>> verdict = expression.evaluate(lambda function, metric, tags: 2.31)
    >>> verdict.holds, str(verdict)
    (False, 'p99(step_duration) = 2.31, max(gradient_norm) = 2.31')
    >>> print(expression.evaluate(lambda function, metric, tags: None).holds)
    None
    """

    text: str
    terms: tuple[Term, ...]
    is_final: bool
    _condition: _Condition = field(repr=False, compare=False)

    @property
    def metrics(self) -> tuple[str, ...]:
        """The names of all its metrics."""
        return tuple(sorted({term.metric for term in self.terms}))

    def evaluate(self, lookup: Lookup) -> Verdict:
        """The verdict on these numbers.

        A comparison with what was not measured is neither true nor false: the whole is undecided, unless
        the rest decides it alone (`false and x` is false, `true or x` is true, whatever x is).
        """
        values = {term: lookup(term.function, term.metric, dict(term.tags)) for term in self.terms}
        return Verdict(self._condition(values), tuple(values.items()))


def parse(text: str) -> Expression:
    """Read an expression. Raises ValueError, which says what was expected and what was found."""
    if len(text) > MAX_CHARACTERS:
        raise ValueError(f"expected an expression of at most {MAX_CHARACTERS} characters, found {len(text)}")
    # Python ends an expression at the end of its line; after a comment a line break must stay one
    text = text.strip()
    flat = text if "#" in text else text.replace("\r", " ").replace("\n", " ")
    try:
        with warnings.catch_warnings():
            # Doubtful escapes and numbers are errors here; what is collected meanwhile may warn of its own.
            for category in (SyntaxWarning, DeprecationWarning):
                warnings.simplefilter("error", category)
            tree = ast.parse(flat, mode="eval")
        return _Reader(flat).read(text, tree.body)
    except SyntaxError as error:
        place = f" (at character {error.offset})" if error.offset else ""
        raise ValueError(f"expected comparisons joined by and/or/not: {error.msg}{place}") from None
    except (RecursionError, MemoryError):
        raise ValueError(f"expected at most {MAX_DEPTH} levels of nesting, found more") from None
    except UnicodeError:
        raise ValueError("expected text, found half of a surrogate pair") from None


class _Reader:
    """Turns whitelisted nodes into functions of the terms' values."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._nodes = 0
        self._depth = 0
        self._terms: dict[Term, None] = {}

    def read(self, text: str, body: ast.expr) -> Expression:
        condition, is_final = self._condition(body)
        if not self._terms:
            raise ValueError(f"expected a function of a metric, such as p99(step_duration), in {text!r}")
        return Expression(text, tuple(self._terms), is_final, condition)

    def _enter(self) -> None:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise ValueError(f"expected at most {MAX_NODES} parts, found more")
        if self._depth > MAX_DEPTH:
            raise ValueError(f"expected at most {MAX_DEPTH} levels of nesting, found more")

    def _shown(self, node: ast.AST) -> str:
        text = ast.get_source_segment(self._text, node) or type(node).__name__
        return repr(text if len(text) <= 60 else text[:59] + "…")

    # -- true or false --------------------------------------------------------------------------

    def _condition(self, node: ast.expr) -> tuple[_Condition, bool]:
        """The condition, and whether it is final."""
        self._depth += 1
        self._enter()
        try:
            if isinstance(node, ast.BoolOp):
                parts = [self._condition(value) for value in node.values]
                decisive = isinstance(node.op, ast.Or)
                return _joined([part for part, _ in parts], decisive), all(final for _, final in parts)
            if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
                inner, _ = self._condition(node.operand)
                return _negated(inner), False
            if isinstance(node, ast.Compare):
                return self._comparison(node)
            raise ValueError(f"expected a comparison such as p99(loss) < 2, found {self._shown(node)}")
        finally:
            self._depth -= 1

    def _comparison(self, node: ast.Compare) -> tuple[_Condition, bool]:
        if not all(type(op) in _COMPARE for op in node.ops):
            signs = " ".join(sign for sign, _ in _COMPARE.values())
            raise ValueError(f"expected one of {signs}, found {self._shown(node)}")
        numbers = [self._number(side) for side in (node.left, *node.comparators)]
        parts, final = [], True
        for i, op in enumerate(node.ops):
            sign, compare = _COMPARE[type(op)]
            (left, left_course), (right, right_course) = numbers[i], numbers[i + 1]
            parts.append(_compared(compare, left, right))
            if sign in (">", ">="):
                left_course, right_course = right_course, left_course
            rises = left_course in (0, 1) and right_course in (0, -1)
            final = final and rises and sign not in ("==", "!=")
        return (parts[0] if len(parts) == 1 else _joined(parts, False)), final

    # -- numbers --------------------------------------------------------------------------------

    def _number(self, node: ast.expr) -> tuple[_Number, int | None]:
        """The number, and whether it only rises (1), only falls (-1), stays (0), or none of these (None)."""
        self._depth += 1
        self._enter()
        try:
            if isinstance(node, ast.Constant):
                return self._constant(node), 0
            if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
                inner, course = self._number(node.operand)
                if isinstance(node.op, ast.UAdd):
                    return inner, course
                return _minus(inner), None if course is None else -course
            if isinstance(node, ast.BinOp):
                if type(node.op) not in _ARITHMETIC:
                    raise ValueError(f"expected one of + - * /, found {self._shown(node)}")
                (left, a), (right, b) = self._number(node.left), self._number(node.right)
                course = 0 if a == b == 0 else None
                if isinstance(node.op, ast.Add | ast.Sub) and a is not None and b is not None:
                    courses = {a, -b if isinstance(node.op, ast.Sub) else b} - {0}
                    course = courses.pop() if len(courses) == 1 else 0 if not courses else None
                return _computed(_ARITHMETIC[type(node.op)], left, right), course
            if isinstance(node, ast.Call):
                term = self._term(node)
                self._terms[term] = None
                return (lambda values: values[term]), _COURSE.get(term.function)
            hint = ""
            if isinstance(node, ast.Name):
                hint = f"; write a function of it, such as last({node.id})"
            raise ValueError(f"expected a number or a function of a metric, found {self._shown(node)}{hint}")
        finally:
            self._depth -= 1

    def _constant(self, node: ast.Constant) -> _Number:
        value = node.value
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"expected a number, found {self._shown(node)}")
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            raise ValueError(f"expected a finite number, found {self._shown(node)}")
        return lambda _values: number

    def _term(self, node: ast.Call) -> Term:
        if not isinstance(node.func, ast.Name) or node.func.id not in FUNCTIONS:
            raise ValueError(f"expected one of {', '.join(FUNCTIONS)}, found {self._shown(node.func)}")
        if len(node.args) != 1:
            raise ValueError(f"expected one metric, found {len(node.args)} in {self._shown(node)}")
        (argument,) = node.args
        if isinstance(argument, ast.Name):
            metric = argument.id
        elif isinstance(argument, ast.Constant) and isinstance(argument.value, str) and argument.value:
            metric = argument.value
        else:
            raise ValueError(
                f'expected the name of a metric, as in last("val/loss"), found {self._shown(argument)}'
            )
        tags: dict[str, str] = {}
        for keyword in node.keywords:
            value = keyword.value
            if keyword.arg is None or not isinstance(value, ast.Constant) or not isinstance(value.value, str):
                raise ValueError(f'expected a tag as split="validation", found {self._shown(node)}')
            if keyword.arg in tags:
                raise ValueError(f"expected each tag once, found {keyword.arg} twice in {self._shown(node)}")
            tags[keyword.arg] = value.value
        return Term(node.func.id, metric, tuple(sorted(tags.items())))


def _joined(parts: list[_Condition], decisive: bool) -> _Condition:
    """`or` where true is decisive, `and` where false is; None is unknown."""

    def condition(values: _Values) -> bool | None:
        verdicts = [part(values) for part in parts]
        return decisive if decisive in verdicts else None if None in verdicts else not decisive

    return condition


def _negated(inner: _Condition) -> _Condition:
    def condition(values: _Values) -> bool | None:
        holds = inner(values)
        return None if holds is None else not holds

    return condition


def _compared(compare: Callable[[float, float], bool], left: _Number, right: _Number) -> _Condition:
    def condition(values: _Values) -> bool | None:
        a, b = left(values), right(values)
        return None if a is None or b is None else bool(compare(a, b))

    return condition


def _minus(inner: _Number) -> _Number:
    def number(values: _Values) -> float | None:
        value = inner(values)
        return None if value is None else -value

    return number


def _computed(compute: Callable[[float, float], float], left: _Number, right: _Number) -> _Number:
    def number(values: _Values) -> float | None:
        a, b = left(values), right(values)
        return None if a is None or b is None else compute(float(a), float(b))

    return number


# -- numbers of a live run -----------------------------------------------------------------------------


def statistic(summary: Summary, function: str) -> float | None:
    """A function of a live summary; percentiles are estimates. None without a value, and for `first`."""
    finite = summary.count - summary.nonfinite
    if function in ("count", "nonfinite"):
        return float(getattr(summary, function))
    if function == "last":
        return summary.last if summary.count else None
    if not finite or function == "first":
        return None
    if function == "sum":
        return summary.mean * finite
    if function in QUANTILES:
        return summary.quantile(QUANTILES[function])
    return float(getattr(summary, function))


def lookup_in(summaries: Summaries) -> Lookup:
    """The numbers of a live run, as `Expression.evaluate` takes them."""

    def lookup(function: str, metric: str, tags: Mapping[str, str]) -> float | None:
        summary = summaries.select(metric, dict(tags))
        return None if summary is None else statistic(summary, function)

    return lookup
