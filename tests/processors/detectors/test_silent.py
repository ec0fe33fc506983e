"""SilentMembers: who is quiet, why, and when it is by design."""

from __future__ import annotations

import itertools
import math
import warnings
from typing import Any, cast

import numpy as np
import pytest
from entrenar_processors import Finding, Samples, Series, Severity, SilentMembers
from scipy.linalg import LinAlgWarning
from sklearn.dummy import DummyRegressor
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.metrics import r2_score

Call = dict[int, float]


def expert(i: int, **tags: object) -> Series:
    return Series.of("loss", {"expert": i, **tags})


def log(calls: list[Call], first: int = 0, **tags: object) -> Samples:
    """One call of `log` after the other, each with some of the experts."""
    return Samples.concat(
        Samples.from_columns({expert(i, **tags): [value] for i, value in call.items()}, seq=[first + n])
        for n, call in enumerate(calls)
        if call
    )


def healthy(n: int, members: int = 4, seed: int = 0) -> list[Call]:
    random = np.random.default_rng(seed)
    return [dict(enumerate(row)) for row in random.normal(1, 0.1, (n, members)).tolist()]


def told(found: list[Finding]) -> list[tuple[str, str, int]]:
    return [
        (one.detector.removeprefix("silent."), dict(one.series.tags)["expert"], one.at.seq)
        for one in found
        if not one.resolved
    ]


def test_one_stops() -> None:
    """Found five rows after its last, at the row of a sibling; the numbers are rows."""
    calls = healthy(100)
    for call in calls[50:]:
        del call[2]
    (found,) = SilentMembers().update(log(calls))
    assert told([found]) == [("stopped", "2", 54)]
    assert (found.severity, found.value, found.expected, found.score) == (Severity.HIGH, 5.0, 1.0, 1.0)


def test_one_is_nan_and_one_is_constant() -> None:
    """The causes have names of their own."""
    calls = healthy(100)
    for call in calls[30:]:
        call[0], call[3] = math.nan, 0.7
    found = SilentMembers().update(log(calls))
    assert told(found) == [("nan", "0", 39), ("constant", "3", 59)]
    assert [one.severity for one in found] == [Severity.HIGH, Severity.MEDIUM]
    assert [one.value for one in found] == [10.0, 30.0]


def test_once_until_it_is_back() -> None:
    """A member that returns may stop again; a longer silence than ever is what is told then."""
    calls = healthy(300)
    for call in [*calls[50:100], *calls[150:]]:
        del call[1]
    monitor = SilentMembers()
    assert told(monitor.update(log(calls))) == [("stopped", "1", 54)]  # 51 rows before, so 4 × 51 now
    more = healthy(60)
    for call in more:
        del call[1]
    assert told(monitor.update(log(more, first=300))) == [("stopped", "1", 353)]
    assert monitor.update(log(more, first=360)) == []


def test_the_whole_group_stops() -> None:
    """Between epochs nothing is reported: no rows, no silence. Nor when it ends one by one together."""
    calls = [*healthy(50), *([{}] * 500), *healthy(50, seed=1)]
    assert SilentMembers().update(log(calls)) == []
    last_rows = [
        {0: 1.1},
        {0: 1.2},
        {0: 1.3},
    ] * 10  # one member goes on for a while: a phase, not three deaths
    assert SilentMembers().update(log([*healthy(50), *last_rows])) == []


def test_one_after_the_other() -> None:
    """Those that stopped before are no witnesses, so the third of four is found too."""
    calls = healthy(200)
    for i, call in enumerate(calls):
        for member in range(3):
            if i >= 50 * (member + 1):
                del call[member]
    assert told(SilentMembers().update(log(calls))) == [
        ("stopped", "0", 54),
        ("stopped", "1", 104),
        ("stopped", "2", 154),
    ]


def test_a_member_alone_and_series_without_tags() -> None:
    """Without siblings nobody knows whether silence is wrong."""
    alone: list[Call] = [{0: 1.0}] * 100 + [{0: math.nan}] * 100
    assert SilentMembers().update(log(alone)) == []
    plain = Samples.from_columns({"loss": [1.0] * 100, "accuracy": np.arange(100.0)})
    assert SilentMembers().update(plain) == []
    other = SilentMembers(["accuracy"])
    assert other.update(log(alone)) == []
    assert dict(other.nonfinite) == {}


@pytest.mark.parametrize("every", [2, 7, 50])
def test_a_rare_reporter_is_compared_with_itself(every: int) -> None:
    """Its own longest gap, four times over, is what it is allowed."""
    calls = healthy(4000)
    for i, call in enumerate(calls):
        if i % every or i > 3000:
            del call[1]
    allowed = max(5, 4 * every)
    last = 3000 // every * every
    assert told(SilentMembers().update(log(calls))) == [("stopped", "1", last + allowed)]


def test_random_reporters_by_design() -> None:
    """A router that sends tokens to an expert now and then: hardly ever taken for dead."""
    mistaken = 0
    for seed, rate in itertools.product(range(5), (0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.9)):
        random = np.random.default_rng([seed, round(rate * 100)])
        calls = healthy(1500, 3)
        for call in calls:
            for member in (1, 2):
                if random.random() > rate:
                    del call[member]
        mistaken += bool(SilentMembers(min_samples=30).update(log(calls)))
    assert mistaken <= 1  # of 35


def test_values_that_repeat_by_design() -> None:
    """A member of few levels has long runs; a saturated group has no sibling that moves."""
    random = np.random.default_rng(0)
    calls = healthy(3000, 3)
    for i, call in enumerate(calls):
        call[0] = float(i // 25)
        call[1] = float(random.random() < 0.1)
    assert SilentMembers().update(log(calls)) == []
    assert SilentMembers().update(log([{0: 1.0, 1: 1.0, 2: 0.5}] * 200)) == []


def test_every_expert_in_a_call_of_its_own() -> None:
    """Rows of the group are what is counted, whoever reports them."""
    calls: list[Call] = []
    for i, row in enumerate(healthy(60)):
        calls += [{member: value} for member, value in row.items() if member != 3 or i < 30]
    (found,) = SilentMembers().update(log(calls))
    assert told([found])[0][:2] == ("stopped", "3")
    assert (found.value, found.expected) == (16.0, 4.0)


def test_a_split_is_no_sibling() -> None:
    """Validation comes once an epoch; the tags in `apart` make groups of their own."""
    monitor = SilentMembers()
    monitor.update(log(healthy(20), split="validation"))
    assert monitor.update(log(healthy(500), first=20, split="train")) == []
    together = SilentMembers(apart=())  # as siblings, four that go on would tell on four that do not
    together.update(log(healthy(20), split="validation"))
    assert len(together.update(log(healthy(500), first=20, split="train"))) == 4


def test_nonfinite_values_are_counted() -> None:
    """Also those of a member without siblings."""
    monitor = SilentMembers()
    monitor.update(log([{0: math.nan, 1: 1.0}, {0: math.inf, 1: 2.0}, {0: 1.0, 1: -math.inf}]))
    assert dict(monitor.nonfinite) == {expert(0): 2, expert(1): 1}


@pytest.mark.parametrize("name", ["stopped_after", "nan_after", "constant_after", "patience", "min_samples"])
def test_what_is_refused(name: str) -> None:
    """At construction."""
    with pytest.raises(ValueError, match=f"expected {name} of at least 1, got 0"):
        SilentMembers(**cast("dict[str, Any]", {name: 0}))


def test_the_founding_story() -> None:
    """Four experts: one's matrix is singular, one says NaN, one always the same, one is well.

    All four "train", the mean loss looks fine, and scikit-learn only warns. Silent are those that
    measure nothing: the NaN and the constant. The singular one still moves, so it is not silent
    (its warning is a `training.warning` event), until it stops, as its caller gives it up.
    """
    random = np.random.default_rng(0)
    w = np.array([1.0, -2.0, 0.5])
    calls: list[Call] = []
    caught: set[type[Warning]] = set()
    for step in range(80):
        x = random.normal(size=(40, 3))
        y = x @ w + 0.1 * random.normal(size=40)
        twice = np.column_stack([x, x[:, 0]])  # collinear: the normal equations have no inverse
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            model = Ridge(alpha=1e-20, solver="cholesky").fit(twice, y)
            singular = float(np.mean((model.predict(twice) - y) ** 2))
            alone = r2_score(y[:1], LinearRegression().fit(x, y).predict(x[:1]))  # of one sample: NaN
            constant = float(np.mean((DummyRegressor().fit(x, np.ones(40)).predict(x) - 1.5) ** 2))
            fine = float(np.mean((LinearRegression().fit(x, y).predict(x) - y) ** 2))
        caught |= {one.category for one in warned}
        call = {
            0: 1 - float(singular) + 1e-3 * float(x.mean()),
            1: float(alone),
            2: round(constant, 6),
            3: fine,
        }
        if step >= 60:
            del call[0]
        calls.append(call)
    assert caught >= {LinAlgWarning, UndefinedMetricWarning}
    assert told(SilentMembers().update(log(calls))) == [
        ("nan", "1", 9),
        ("constant", "2", 29),
        ("stopped", "0", 64),
    ]
    assert told(SilentMembers().update(log(calls[:60]))) == [("nan", "1", 9), ("constant", "2", 29)]


def one_by_one(
    n: int, members: int, begin: int = 0, without: int = -1, rare: int = 1, nan: tuple[int, ...] = ()
) -> Samples:
    """Every member in a call of its own; the upper half of them in each `rare`th round only."""
    random = np.random.default_rng(begin)
    blocks: list[Any] = []
    for member in range(members):
        rounds = [r for r in range(begin, begin + n) if member < members // 2 or not r % rare]
        if member == without or not rounds:
            continue
        seq = np.array(rounds) * members + member
        values = random.normal(size=len(rounds))
        column = {expert(member): np.full(len(rounds), np.nan) if member in nan else values}
        blocks += Samples.from_columns(column, seq=seq, step=rounds).blocks
    return Samples(blocks)


def test_many_members_one_by_one_are_counted_in_rounds() -> None:
    """A table of all calls and members would have millions of cells: five rounds without one are enough."""
    silent, members = SilentMembers(), 100
    assert silent.update(one_by_one(20, members)) == []
    (found,) = silent.update(one_by_one(20, members, 20, without=7))
    assert (found.detector, found.series, found.value) == ("silent.stopped", expert(7), 5.0)
    assert found.at.step == 24
    (back,) = silent.update(one_by_one(20, members, 40))
    assert (back.resolved, back.series, back.at.step) == (True, expert(7), 40)


def test_nan_among_many_one_by_one() -> None:
    """Found where the member itself reported, and said in words; also of the first of all."""
    silent, members = SilentMembers(), 100
    assert silent.update(one_by_one(20, members)) == []
    found = silent.update(one_by_one(20, members, 20, nan=(0, 5)))
    assert [(one.detector, one.series, one.value, one.at.step) for one in found[:2]] == [
        ("silent.nan", expert(member), 10.0, 29) for member in (0, 5)
    ]
    assert [one.at.seq for one in found[:2]] == [29 * members, 29 * members + 5]
    assert found[1].text == 'loss{expert="5"} was not finite 10 times in a row while its siblings were'
    assert silent.nonfinite[expert(0)] == 20


@pytest.mark.parametrize("ticks", [1, 7])
def test_rare_ones_among_many_are_not_silent(ticks: int) -> None:
    """Half of the members report in every tenth round: by design, whatever the heartbeat makes of it."""
    silent, n = SilentMembers(), 140
    for begin in range(0, n, n // ticks):
        assert silent.update(one_by_one(n // ticks, 80, begin, rare=10)) == []
