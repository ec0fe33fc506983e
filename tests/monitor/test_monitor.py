"""Monitor: a run, from the training loop's point of view."""

from __future__ import annotations

import logging
import math
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import entrenar_otel
from entrenar_otel import AndonStop, BadInput, Metric, Monitor, errors
from entrenar_otel.lake import Lake
from entrenar_otel.testing import FakeClock

ISSUE_SQL = (
    "SELECT metric, AVG(value), STDDEV(value) FROM metrics WHERE timestamp > NOW() - INTERVAL '1 hour' "
    "GROUP BY metric"
)


def make(run_id: str | None = "r", **settings: Any) -> Monitor:
    return Monitor(run_id, **{"lake": "lake", "quiet": True, **settings})


def state_of(run_id: str = "r") -> tuple[str, str | None]:
    record = [one for one in Lake("lake").runs() if one.run_id == run_id][-1]
    return record.state, record.reason


def rows(monitor: Monitor, metric: str) -> list[tuple[Any, ...]]:
    found = monitor.curve(metric).select(["epoch", "batch", "step", "value"]).to_pylist()
    return [tuple(row.values()) for row in found]


def test_the_user_story() -> None:
    """Three epochs of two full batches and a partial one: every number lies where the loop was."""
    batches = [(np.zeros((4, 2)), np.zeros(4)), (np.ones((4, 2)), np.ones(4)), (np.ones((1, 2)), np.ones(1))]
    clock = FakeClock(start_seconds=time.time())
    model: dict[str, Any] = {"model_id": "digits-mlp", "version": "1.0.0", "config": {"lr": 0.1}}
    with make("digits-7", clock=clock, **model) as monitor:
        for epoch in monitor.epochs(3):
            for batch, (x, y) in enumerate(monitor.steps(batches)):
                assert len(x) == len(y)
                clock.advance(0.25)
                monitor.log(loss=epoch + batch / 10, accuracy=0.5)
            monitor.log({"val/loss": 0.3}, accuracy=0.9, tags={"split": "validation"})
        monitor.log(done=1)
        at = [(e, b, 3 * e + b) for e in range(3) for b in range(3)]
        assert rows(monitor, "loss") == [(*where, where[0] + where[1] / 10) for where in at]
        assert rows(monitor, "samples") == [(*where, (4, 4, 1)[where[1]]) for where in at]
        assert [row[:3] for row in rows(monitor, "step_duration")] == at
        assert [row[:3] for row in rows(monitor, "data_wait")] == at
        assert [row[3] for row in rows(monitor, "step_duration")] == [0.25] * 9
        assert [row[3] for row in rows(monitor, "data_wait")] == [0.0] * 9
        assert rows(monitor, "val/loss") == [(e, None, 3 * e + 2, 0.3) for e in range(3)]
        assert rows(monitor, "done") == [(None, None, 0, 1.0)]

        loss = monitor.summary()["loss"]
        values = [e + b / 10 for e, b, _ in at]
        assert (loss.count, loss.last, loss.min, loss.max) == (9, 2.2, 0.0, 2.2)
        assert loss.mean == pytest.approx(np.mean(values))
        assert loss.std == pytest.approx(np.std(values, ddof=1))
        for q in (50, 90, 99):
            assert getattr(loss, f"p{q}") == pytest.approx(np.percentile(values, q))
        assert monitor.summary("accuracy", split="validation").mean == 0.9
        assert monitor.summary("accuracy").count == 9
        assert monitor.summary()['accuracy{split="validation"}'].count == 3
        assert monitor.sample_count("accuracy") == 12
        assert monitor.sample_count(Metric.ACCURACY, split="validation") == 3
        assert (monitor.is_measured("val/loss"), monitor.is_measured("val_loss")) == (True, False)
        assert monitor.curve("accuracy", split="validation")["value"].to_pylist() == [0.9] * 3

        answer = {row["metric"]: list(row.values())[1:] for row in monitor.query(ISSUE_SQL).to_pylist()}
        assert answer["loss"] == [pytest.approx(np.mean(values)), pytest.approx(np.std(values, ddof=1))]
        assert answer["samples"][0] == 3.0
        records = monitor.to_records()
        expected = dict.fromkeys(("step_duration", "data_wait", "samples", "loss"), 9)
        assert Counter(r.metric for r in records) == {**expected, "accuracy": 12, "val/loss": 3, "done": 1}
        assert [r.seq for r in records] == sorted(r.seq for r in records)
        assert records[-1].tags == {}
        assert {str(r.tags) for r in records if r.metric == "val/loss"} == {"{'split': 'validation'}"}
        middle = records[len(records) // 2].timestamp
        before = monitor.range(datetime.now(UTC) - timedelta(hours=1), middle)
        after = monitor.range(middle, datetime.now(UTC) + timedelta(hours=1))
        assert (before.num_rows > 0, before.num_rows + after.num_rows) == (True, len(records))
        open_rows = monitor.query("SELECT * FROM metrics ORDER BY seq, metric")
    assert monitor.query("SELECT * FROM metrics ORDER BY seq, metric").to_pylist() == open_rows.to_pylist()
    (record,) = Lake("lake").runs()
    assert (record.state, record.model_id, record.version) == ("completed", "digits-mlp", "1.0.0")
    assert (record.config, record.attempt, len(record.config_hash)) == ('{"lr": 0.1}', 1, 16)


def test_a_query_means_the_run(tmp_path: Path) -> None:
    """As `summary()` and `curve()` do; the lake has all runs, and each its own."""
    earlier = Monitor("earlier", lake=tmp_path / "lake", quiet=True).start()
    earlier.log(loss=1.0)
    earlier.close()
    count = "SELECT count(*) AS n, min(value) AS v FROM metrics WHERE metric = ?"
    with Monitor("later", lake=tmp_path / "lake", quiet=True) as monitor:
        monitor.log(loss=2.0)
        assert monitor.query(count, ["loss"]).to_pylist() == [{"n": 1, "v": 2.0}]
        for lake in (monitor.lake, entrenar_otel.Lake(tmp_path / "lake")):
            assert lake.query(count, ["loss"]).to_pylist() == [{"n": 2, "v": 1.0}]
            assert lake.query(count, ["loss"], run_id="earlier").to_pylist() == [{"n": 1, "v": 1.0}]
        for view in ("runs", "events", "spans", "summaries", "alerts"):
            assert monitor.query(f"SELECT DISTINCT run_id FROM {view}").column(0).to_pylist() == ["later"]
    assert monitor.query(count, ["loss"]).to_pylist() == [{"n": 1, "v": 2.0}]
    assert earlier.query(count, ["loss"]).to_pylist() == [{"n": 1, "v": 1.0}]


def test_log_by_hand_before_with_and_bind() -> None:
    """The first log starts the run; coordinates by hand; bind and record end up in the same series."""
    monitor = make()
    before = monitor.attempt
    assert before is None
    monitor.log({"loss": 1.0}, epoch=1, batch=2, step=30)
    assert (monitor.attempt, monitor.summary("loss").last) == (1, 1.0)
    with monitor:
        fast = monitor.bind("loss", "accuracy")
        fast(2.0, 0.5, epoch=3, batch=4)
        fast(3.0, 0.6)
        monitor.bind("loss", tags={"split": "validation"})(4.0, step=5)
        monitor.record(Metric.LOSS, 5.0, epoch=9, tags={"split": 7})
    expected = [(1, 2, 30, 1.0), (3, 4, None, 2.0), (None, None, None, 3.0), (None, None, 5, 4.0)]
    assert rows(monitor, Metric.LOSS) == [*expected, (9, None, 0, 5.0)]  # the first of its series
    assert monitor.curve("loss", split=7)["value"].to_pylist() == [5.0]


def test_nan_loss_stops_the_line() -> None:
    """AndonStop comes out of that very call, with the sample safe, and `with` lets it through."""
    monitor = make("my run")
    after: list[Any] = []

    def train() -> None:
        with monitor:
            for _ in monitor.epochs(3):
                for _ in monitor.steps([[1], [2], [3], [4]]):
                    monitor.log(loss=9.0, tags={"split": "validation"})
                    monitor.log(loss=math.nan if len(after) == 6 else 1 / (len(after) + 1), other=7)
                    after.append(len(after))

    with pytest.raises(AndonStop) as caught:
        train()
    stop = caught.value
    assert (stop.metric, stop.epoch, stop.batch, stop.step) == ("loss", 1, 2, 6)
    assert math.isnan(stop.value or 0)
    text = str(stop)
    assert "Training diverged: loss is nan at epoch 1, batch 2, step 6." in text
    assert "The last finite values were 0.25, 0.2, 0.166667." in text
    assert f"`entrenar-otel show 'my run' --lake {Path.cwd()}/lake`" in text
    assert "lower the learning rate" in text
    assert after == [0, 1, 2, 3, 4, 5]
    found = monitor.query("SELECT epoch, batch, step FROM metrics WHERE metric = 'loss' AND isnan(value)")
    assert found.to_pylist() == [{"epoch": 1, "batch": 2, "step": 6}]
    assert monitor.curve("other")["value"].to_pylist() == [7.0] * 7
    assert state_of("my run") == ("stopped", f"AndonStop: {stop}")


@pytest.mark.parametrize("how", ["log", "mapping", "bind", "record", "train tag"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_every_way_of_reporting_a_broken_loss_stops(how: str, value: float) -> None:
    """The fast path, the careful path and the generated function all stop, twice too."""
    monitor = make()
    fast = monitor.bind("a", "loss")
    report: Callable[[float], None] = {
        "log": lambda v: monitor.log(loss=v),
        "mapping": lambda v: monitor.log({"loss": v}),
        "bind": lambda v: fast(1.0, v),
        "record": lambda v: monitor.record(Metric.LOSS, v),
        "train tag": lambda v: monitor.log(loss=v, tags={"split": "train"}),
    }[how]
    report(1.0)
    for _ in range(2):
        with pytest.raises(
            AndonStop, match=r"loss.* is -?(nan|inf) at an unknown step. The last finite .* 1. "
        ):
            report(value)
    assert monitor.sample_count("loss") == 3
    np.testing.assert_array_equal(monitor.curve("loss")["value"].to_numpy(), [1.0, value, value])


def test_other_nonfinite_values_are_kept_and_counted() -> None:
    """Validation loss and other metrics may be NaN; they are reported, and no mean hides behind them."""
    with make() as monitor:
        monitor.log(loss=math.nan, tags={"split": "validation"})
        monitor.log({"val/loss": math.nan}, accuracy=math.inf)
        monitor.log(accuracy=0.5)
        accuracy = monitor.summary("accuracy")
        assert (accuracy.count, accuracy.nonfinite, accuracy.mean, accuracy.last) == (2, 1, 0.5, 0.5)
        assert monitor.is_measured("val/loss")
    assert state_of()[0] == "completed"


@pytest.mark.parametrize("bad", [None, "abc", "1.5", [1.0, 2.0], np.zeros(2), object(), 1j, {}])
def test_bad_values_warn_once_or_raise(bad: Any, caplog: pytest.LogCaptureFixture) -> None:
    """What is not a number is named, counted and skipped; with on_bad_value="raise" what was good stays."""
    errors.set_strict(False)  # as in production: BadInput must pass the guard
    with make() as monitor:
        for _ in range(3):
            monitor.log(good=1.0, odd=bad)
        assert (monitor.bad_values, monitor.sample_count("good"), monitor.is_measured("odd")) == (3, 3, False)
    told = [r.message for r in caplog.records if "odd must be one number, got" in r.message]
    assert len(told) == 1
    with make("s", on_bad_value="raise") as monitor:
        with pytest.raises(BadInput, match=r"odd must be one number, got .*; not recorded"):
            monitor.log(good=1.0, odd=bad)
        with pytest.raises(BadInput, match="epoch must be a whole number from 0 to 2147483647, got -1"):
            monitor.log(good=1.0, epoch=-1)
        assert monitor.sample_count("good") == 2


class _Unsized:
    """A loader whose length raises, like torch's over an endless data set."""

    def __init__(self, batches: list[Any]) -> None:
        self.batches = batches

    def __iter__(self) -> Any:
        return iter(self.batches)

    def __len__(self) -> int:
        raise TypeError("no length")


@pytest.mark.parametrize(
    ("batches", "sizes"),
    [
        ([np.zeros(3), np.zeros(2)], [3, 2]),
        ([{"ids": [1, 2], "mask": [1, 1]}], [2]),
        ([({"ids": np.zeros((5, 9))}, np.zeros(5))], [5]),
        ([["a text", "another", "third"]], [3]),
        (_Unsized([[[1, 2]], [[3]]]), [2, 1]),
        ([np.array(1.0), np.array(2.0)], None),
        ([1, "text", None], None),
        ([[[1, 2]], (), [[1]]], [2, None, 1]),
        ([[[1, 2]], [], [[1]]], [2, None, 1]),
        ([1, 2, [[1]], 3, [[1]]], [None, None, 1, None, 1]),
    ],
)
def test_steps_sizes_batches_and_never_breaks_the_loop(batches: Any, sizes: list[int | None] | None) -> None:
    """Samples are counted where a batch says how many it has; every step is timed all the same."""
    with make() as monitor:
        n = sum(1 for _ in monitor.steps(batches))
        assert monitor.sample_count("step_duration") == n == monitor.sample_count("data_wait")
        assert monitor.is_measured("samples") == bool(sizes)
        if sizes:
            assert rows(monitor, "samples") == [(None, i, i, n) for i, n in enumerate(sizes) if n is not None]


def test_summaries_stand_still_while_the_loop_and_the_heartbeat_go_on() -> None:
    """Asking from another thread, thousands of ticks a second, never fails and never goes back."""
    failed: list[BaseException] = []
    with make(interval_seconds=0.0001) as monitor:
        monitor.log(loss=0.0)
        stop = threading.Event()

        def ask(metric: str | None) -> None:
            last = 0
            try:
                while not stop.is_set():
                    one = monitor.summary(metric) if metric else monitor.summary()["loss"]
                    count, same = one.count, monitor.sample_count("loss")
                    assert last <= count <= same
                    assert one.min <= one.p50 <= one.max <= 20_000
                    last = count
            except BaseException as error:
                failed.append(error)

        threads = [threading.Thread(target=ask, args=[metric]) for metric in ("loss", None)]
        for thread in threads:
            thread.start()
        for i in range(20_000):
            monitor.log(loss=float(i))
        stop.set()
        for thread in threads:
            thread.join()
        assert failed == []
        before = monitor.summary("loss"), monitor.summary()["loss"]
        monitor.log(loss=0.0)
        assert monitor.sample_count("loss") == 20_002
        assert [one.count for one in before] == [20_001, 20_001]


def test_torch_tensors(caplog: pytest.LogCaptureFixture) -> None:
    """0-d tensors of every float type, with and without a graph, with warnings as errors: exact values."""
    try:
        import torch
    except ImportError:
        pytest.skip("NOT TESTED: torch is missing, so nothing says that its tensors are recorded right")
    kinds = {"float64": 0.1, "float32": 0.10000000149011612, "float16": 0.0999755859375,
             "bfloat16": 0.10009765625, "int64": 0.0}  # fmt: skip
    caplog.set_level(logging.WARNING)
    with make() as monitor, warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        fast = monitor.bind("bound", "loss")
        for name, value in kinds.items():
            for shape in ((), (1,), (1, 1)):
                for grad in (False, True)[: 2 if name != "int64" else 1]:
                    tensor = torch.full(shape, value, dtype=getattr(torch, name), requires_grad=grad)
                    monitor.log({name: tensor, "loss": tensor})
                    monitor.log(**{name: tensor})
                    fast(tensor, tensor)
                    assert monitor.summary(name).last == value == monitor.summary("bound").last
        assert monitor.sample_count("bound") == monitor.sample_count("float64") // 2 * 4 + 3
        told = [one.message for one in caplog.records if one.name != "entrenar_otel.alert"]
        assert (monitor.bad_values, told) == (0, [])
        with pytest.raises(AndonStop):
            fast(1.0, torch.tensor(math.nan, requires_grad=True))
        with pytest.raises(AndonStop):
            monitor.log(loss=torch.tensor(math.inf, dtype=torch.bfloat16, requires_grad=True))
        batches = [(torch.zeros(8, 3), torch.zeros(8)), (torch.zeros(5, 3), torch.zeros(5))]
        for _ in monitor.steps(batches):
            pass
        for _ in monitor.steps(torch.arange(2)):
            pass
        assert monitor.curve("samples")["value"].to_pylist() == [8.0, 5.0]
