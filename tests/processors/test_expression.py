"""The language of custom budgets: what it says, what it refuses, and that its numbers are numpy's."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pytest
from entrenar_processors.expression import FUNCTIONS, MAX_NODES, QUANTILES, Lookup, Term, lookup_in, parse
from entrenar_processors.samples import Block, Samples, Series
from entrenar_processors.stats.summary import Summaries
from hypothesis import given, settings
from hypothesis import strategies as st


def of(**numbers: float) -> Lookup:
    """Numbers by function and metric: `p99_loss=2`."""
    return lambda function, metric, tags: numbers.get(f"{function}_{metric}")


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("p99(step) < 2.0 and max(norm) < 100", True),
        ("p99(step) < 1.5", False),
        ("p99(step) <= 1.5", True),
        ("p99(step) < 1.4 or max(norm) >= 50", True),
        ("not max(norm) > 60", True),
        ("not (max(norm) > 40)", False),
        ("0 < p99(step) < max(norm) < 51", True),
        ("0 < p99(step) < 1 < max(norm)", False),
        ("max(norm) / p99(step) > 33", True),
        ("-max(norm) + 2 * 25 == +0", True),
        ("max(norm) - 10 * 2 - 1 != 29", False),
        ("max(norm) / 0 > 1e300 and -max(norm) / 0 < -1e300", True),
        ("max(norm) * 0 / 0 == max(norm) * 0 / 0", False),
        ("\n  p99(step) < 2\n  and max(norm) < 100\n", True),
        ("p99(step) < 2  # quick enough", True),
    ],
)
def test_what_it_says(text: str, holds: bool) -> None:
    """Comparisons, chains, arithmetic and connectives mean what they mean in Python."""
    assert parse(text).evaluate(of(p99_step=1.5, max_norm=50.0)).holds is holds


def test_metrics_by_text_and_with_tags() -> None:
    """Names that are no identifiers are text; tags narrow; each term is asked for once."""
    asked = []

    def lookup(function: str, metric: str, tags: Mapping[str, str]) -> float | None:
        asked.append((function, metric, dict(tags)))
        return 0.5

    expression = parse(
        'last("val/loss") < 1 and last("acc", split="b", a="x") > 0.4 and last("val/loss") > 0'
    )
    assert expression.evaluate(lookup).holds is True
    assert asked == [("last", "val/loss", {}), ("last", "acc", {"split": "b", "a": "x"})]
    assert expression.metrics == ("acc", "val/loss")
    assert [str(term) for term in expression.terms] == ['last("val/loss")', 'last("acc", a="x", split="b")']


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("p99(step) < 2 and last(gone) > 0", None),
        ("p99(step) > 2 and last(gone) > 0", False),
        ("p99(step) < 2 or last(gone) > 0", True),
        ("p99(step) > 2 or last(gone) > 0", None),
        ("not last(gone) > 0", None),
        ("0 < p99(step) < last(gone)", None),
        ("3 < p99(step) < last(gone)", False),
        ("-last(gone) + 1 == 1", None),
    ],
)
def test_what_was_not_measured_is_never_guessed(text: str, holds: bool | None) -> None:
    """Undecided, unless the measured part decides alone; the message names what is missing."""
    verdict = parse(text).evaluate(of(p99_step=1.5))
    assert verdict.holds is holds
    assert verdict.missing == (Term("last", "gone"),)
    assert "last(gone) was not measured" in str(verdict)


def test_a_nan_that_was_reported_is_within_no_limit() -> None:
    verdict = parse("last(loss) < 2").evaluate(of(last_loss=math.nan))
    assert verdict.holds is False
    assert str(verdict) == "last(loss) = nan"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "expected comparisons joined by and/or/not"),
        ("p99(loss) <", "expected comparisons joined by and/or/not: invalid syntax"),
        ("p99(loss)", r"expected a comparison such as .*, found 'p99\(loss\)'"),
        ("not 3", "expected a comparison .*, found '3'"),
        ("True", "expected a comparison"),
        ("1 < 2", "expected a function of a metric"),
        ("loss < 2", r"found 'loss'; write a function of it, such as last\(loss\)"),
        ("(max(a) < 1) < 2", "expected a number or a function"),
        ("max(a) ** 2 < 4", r"expected one of \+ - \* /, found 'max\(a\) \*\* 2'"),
        ("max(a) % 2 < 4", "expected one of"),
        ("max(a) // 2 < 4", "expected one of"),
        ("~max(a) < 4", "expected a number"),
        ("max(a) in (1, 2)", "expected one of < <= > >= == !="),
        ("max(a) is 1", "expected"),
        ("p98(a) < 1", "expected one of p50, p90, .*nonfinite, found 'p98'"),
        ("open('x') < 1", "found 'open'"),
        ("__import__('os').system('x') < 1", "expected one of"),
        ("max(a).real < 1", "expected a number"),
        ("max(training.loss) < 1", r'as in last\("val/loss"\), found \'training.loss\''),
        ("max() < 1", "expected one metric, found 0"),
        ("max(a, b) < 1", "expected one metric, found 2"),
        ("max(*a) < 1", "expected the name of a metric"),
        ("max('') < 1", "expected the name"),
        ("max(1) < 1", "expected the name"),
        ("max(b'a') < 1", "expected the name"),
        ("max(f'{a}') < 1", "expected the name"),
        ("max(a, **b) < 1", "expected a tag"),
        ("max(a, split=validation) < 1", 'expected a tag as split="validation"'),
        ("max(a, split=1) < 1", "expected a tag"),
        ("max(a, b='1', b='2') < 1", "expected each tag once, found b twice"),
        ("[max(a) for a in b] < 1", "expected a number"),
        ("(lambda: 1)() < 1", "expected one of"),
        ("(x := 1) < max(a)", "expected a number"),
        ("max(a) < 1 if 1 else 2", "expected a comparison"),
        ("max(a)[0] < 1", "expected a number"),
        ("max(a) < True", "expected a number"),
        ("max(a) < 1j", "expected a number"),
        ("max(a) < 'b'", "expected a number"),
        ("max(a) < ...", "expected a number"),
        ("max(a) < 1e999", "expected a finite number"),
        ("max(a) < " + "9" * 400, "expected a finite number"),
        ("max(a) < 1; max(b) < 1", "expected comparisons"),
        ("max(a) < 1 # so\n and max(b) < 1", "expected"),
        ("max('\\d') < 1", "expected"),
        ("max(a) < 1\0", "expected|null"),
        ("max('\ud800') < 1", "surrogate"),
        ("max(a) < " + "-" * 1900 + "1", "levels of nesting"),
        ("(" * 900 + "max(a) < 1" + ")" * 900, "expected"),
        ("max(a) < 1" + "+1" * 45, "levels of nesting"),
        ("not " * 450 + "max(a) < 1", "levels of nesting"),
        (" or ".join(["max(a)<1"] * (MAX_NODES // 3 + 1)), f"expected at most {MAX_NODES} parts"),
        ("max(a) < 1 " + " " * 2000 + "and min(a) > 0", "at most 2000 characters"),
    ],
)
def test_everything_else_is_refused(text: str, told: str) -> None:
    """With what was expected and what was found."""
    with pytest.raises(ValueError, match=told):
        parse(text)


def test_which_are_final() -> None:
    """A floor under the last accuracy says nothing before the end; a ceiling over a maximum does."""
    final = [
        "max(a) < 9",
        "9 >= max(a)",
        "min(a) > 0 and count(a) < 5",
        "-min(a) < 3",
        "max(a) - min(a) < 2 * 3",
        "nonfinite(a) <= 0 or 1 < min(b) - max(c)",
    ]
    open_ = [
        *("max(a) > 9", "p99(a) < 9", "not max(a) > 9", "max(a) + min(a) < 3", "max(a) == 3", "min(a) < 1"),
        *("max(a) < 1 and last(a) > 0", "max(a) * -1 < 3", "sum(a) < 3", "1 / max(a) > 1"),
    ]
    assert [text for text in final if not parse(text).is_final] == []
    assert [text for text in open_ if parse(text).is_final] == []


@settings(max_examples=300)
@given(st.text(max_size=80))
def test_any_text_gives_an_expression_or_a_value_error(text: str) -> None:
    try:
        parse(text)
    except ValueError:
        pass


_PIECES = [
    *FUNCTIONS, *"()[]{}<>=!+-*/%.,:;'\"\\\n\t #@~^&|0123456789", "and ", " or ", "not ", "lambda ", " if ",
    " for ", " in ", " is ", "loss", "f'", "**", "//", ":=", "1e", "0x", "__class__", "await ", "yield ", "*",
]  # fmt: skip


@settings(max_examples=500)
@given(st.lists(st.sampled_from(_PIECES), max_size=40).map("".join))
def test_any_near_expression_too(text: str) -> None:
    try:
        expression = parse(text)
    except ValueError:
        return
    expression.evaluate(lambda function, metric, tags: 1.0)


_NUMBERS = st.floats(-1e6, 1e6).map(lambda x: round(x, 3))


@st.composite
def _arithmetic(draw: st.DrawFn, depth: int = 3) -> str:
    kind = draw(st.integers(0, 4)) if depth else draw(st.integers(0, 1))
    if kind == 0:
        return repr(draw(_NUMBERS))
    if kind == 1:
        return f"{draw(st.sampled_from(['min', 'max', 'last']))}({draw(st.sampled_from('abc'))})"
    if kind == 2:
        return f"-({draw(_arithmetic(depth - 1))})"
    left, right = draw(_arithmetic(depth - 1)), draw(_arithmetic(depth - 1))
    return f"({left}) {draw(st.sampled_from('+-*/'))} ({right})"


@settings(max_examples=200)
@given(_arithmetic(), _arithmetic(), st.sampled_from(["<", "<=", ">", ">=", "==", "!="]), st.data())
def test_arithmetic_is_numpy_s(left: str, right: str, sign: str, data: st.DataObject) -> None:
    """Any formula gives what numpy's float64 gives, infinities and NaN included."""
    text = f"{left} {sign} {right} or max(a) > 1e300"
    values = {name: np.float64(data.draw(_NUMBERS)) for name in "abc"}
    names = dict.fromkeys(("min", "max", "last"), lambda value: value) | values
    with np.errstate(all="ignore"):
        code = compile(_in_numpy(f"{left} {sign} {right}"), "test", "eval")
        expected = bool(eval(code, {**names, "np": np}))
    assert parse(text).evaluate(lambda function, metric, tags: float(values[metric])).holds is expected


def _in_numpy(text: str) -> str:
    import re

    return re.sub(r"(?<![\w.])(\d+\.\d+(?:e[+-]?\d+)?)", r"np.float64(\1)", text)


@settings(max_examples=60)
@given(st.lists(st.floats(-1e6, 1e6) | st.just(math.nan), min_size=1, max_size=60))
def test_numbers_of_a_live_run_are_numpy_s(values: list[float]) -> None:
    """Every function over the live summaries; percentiles within the sketch's 1 %."""
    n = len(values)
    array = np.array(values)
    zeros = np.zeros(n, np.int32)
    summaries = Summaries()
    block = Block((Series("loss"),), np.arange(n), zeros, zeros, np.arange(n), np.arange(n), array[:, None])
    summaries.update(Samples([block]))
    lookup = lookup_in(summaries)
    finite = array[np.isfinite(array)]
    assert lookup("count", "loss", {}) == n
    assert lookup("nonfinite", "loss", {}) == n - len(finite)
    assert lookup("last", "loss", {}) == pytest.approx(array[-1], nan_ok=True)
    assert lookup("first", "loss", {}) is None
    assert lookup("mean", "other", {}) is None
    if not len(finite):
        assert all(lookup(name, "loss", {}) is None for name in ("mean", "sum", "p99", "min", "std"))
        return
    wanted = {"mean": finite.mean(), "sum": finite.sum(), "min": finite.min(), "max": finite.max()}
    wanted["std"] = finite.std(ddof=1) if len(finite) > 1 else 0.0
    for name, number in wanted.items():
        assert lookup(name, "loss", {}) == pytest.approx(number, rel=1e-6, abs=1e-6)
    for name, q in QUANTILES.items():
        low, high = (np.quantile(finite, q, method=method) for method in ("lower", "higher"))
        found = lookup(name, "loss", {})
        assert found is not None
        assert low - abs(low) * 0.02 - 1e-6 <= found <= high + abs(high) * 0.02 + 1e-6
