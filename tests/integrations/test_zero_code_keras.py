"""A Keras model in a program without a line of ours, under `entrenar-otel run`."""

from __future__ import annotations

import keras
import pytest

from entrenar_otel.zero_code.instrumentors import KerasInstrumentor
from tests.integrations.zero_code import recorded

TRAIN = """
import sys

import keras
import numpy as np

x, y = np.ones((80, 2), "float32"), np.ones(80, "float32")
if "nan" in sys.argv:
    x[30] = float("nan")
model = keras.Sequential([keras.layers.Dense(1)])
model.compile("sgd", "mse")


def ours():
    from entrenar_otel.integrations.keras import EntrenarCallback

    return EntrenarCallback()


class Broken(keras.callbacks.Callback):
    def on_train_batch_begin(self, batch, logs=None):
        if batch == 3:
            raise ValueError("broken")


class Asking(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        self.model.evaluate(x[:20], y[:20], batch_size=10, verbose=0)


callbacks = None
if "own" in sys.argv:
    callbacks = [ours()]
if "broken" in sys.argv:
    callbacks = Broken()
if "asking" in sys.argv:
    callbacks = [Asking()]
options = dict(batch_size=10, verbose=0, shuffle=False)
try:
    if "by_place" in sys.argv:
        model.fit(x, y, 10, 1, 0, callbacks, 0.0, (x[:10], y[:10]), False)
    else:
        model.fit(x, y, validation_data=(x[:10], y[:10]), callbacks=callbacks, **options)
except ValueError:
    pass
if "evaluate" in sys.argv or "own" in sys.argv:
    model.evaluate(x, y, batch_size=10, verbose=0)
model.save("model.keras")
keras.models.load_model("model.keras")
"""
LOSSES = (
    "SELECT attempt, coalesce(tags['split'], 'train') AS split, count(*) AS n FROM metrics "
    "WHERE metric = 'loss' GROUP BY ALL ORDER BY ALL"
)


@pytest.mark.parametrize("argument", ["", "own", "by_place"])
def test_a_model_has_our_callback_once(argument: str) -> None:
    """Every batch's loss once; one that was given its callback evaluates without ours."""
    lake = recorded(TRAIN, argument)
    (run,) = lake.runs()
    assert (run.model_id, run.state) == ("Sequential", "completed")
    assert [tuple(row.values()) for row in lake.query(LOSSES).to_pylist()] == [
        (run.attempt, "train", 8),
        (run.attempt, "validation", 1),
    ]


def test_a_nan_stops_the_fit() -> None:
    """At its own batch, with the exit code that says so."""
    lake = recorded(TRAIN, "nan", code=86)
    (run,) = lake.runs()
    assert run.state == "stopped"
    ((place),) = lake.query("SELECT max(batch) AS last FROM metrics WHERE metric = 'loss'").to_pylist()
    assert place == {"last": 3}


def test_an_evaluation_after_a_fit_is_another_attempt_of_its_run() -> None:
    """With the callback that the model has kept."""
    counts = [tuple(row.values())[1:] for row in recorded(TRAIN, "evaluate").query(LOSSES).to_pylist()]
    assert counts == [("train", 8), ("validation", 1), ("test", 1)]


def test_a_fit_that_raises_has_crashed() -> None:
    """Of which Keras tells no callback; the program goes on."""
    (run,) = recorded(TRAIN, "broken").runs()
    assert run.state == "crashed"
    assert "broken" in str(run.reason)


def test_an_evaluation_within_a_fit_is_no_run() -> None:
    """A callback of the program that evaluates does not end the recording of the fit."""
    lake = recorded(TRAIN, "asking")
    (run,) = lake.runs()
    assert run.state == "completed"
    assert [row["n"] for row in lake.query(LOSSES).to_pylist()] == [8, 1]


def test_what_was_instrumented_is_given_back() -> None:
    """Once, however often it was asked for; the methods are those of before."""
    before = keras.Model.fit, keras.Model.evaluate
    instrumentor = KerasInstrumentor()
    for _ in range(2):
        instrumentor.instrument()
    assert keras.Model.fit is not before[0]
    instrumentor.uninstrument()
    assert (keras.Model.fit, keras.Model.evaluate) == before
