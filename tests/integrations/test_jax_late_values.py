"""A `jax.Array` that is being computed: `log` does not wait for it. And the examples of the page about it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from entrenar_otel import Lake, Monitor
from entrenar_otel.errors import AndonStop

PAGE = Path(__file__).parents[2] / "docs" / "integrations" / "device.md"
EXAMPLES = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), flags=re.M | re.S)


#: So much work that a call returns before it is done.
compute: Any = jax.jit(lambda x, number: jnp.sum(x @ x @ x @ x) * 0 + number)


@pytest.fixture(scope="module")
def x() -> Any:
    ones = jnp.ones((1000, 1000))
    compute(ones, 0.0).block_until_ready()
    return ones


def values(folder: Path) -> list[tuple[int, float]]:
    sql = "SELECT step, value FROM metrics WHERE metric = 'loss' ORDER BY seq"
    return [(row["step"], row["value"]) for row in Lake(folder).query(sql).to_pylist()]


def test_an_array_is_recorded_at_its_own_step(x: Any, tmp_path: Path) -> None:
    with Monitor(lake=tmp_path, quiet=True) as monitor:
        late = 0
        for step in monitor.steps(range(8)):
            loss = compute(x, float(step))
            is_pending = not loss.is_ready()
            monitor.log(loss=loss, lr=0.1)
            late += is_pending
    assert values(tmp_path) == [(step, float(step)) for step in range(8)]
    assert late, "every array was ready at once: nothing was tested"


@pytest.mark.parametrize("bad_step", [2, 7])
def test_a_nan_is_named_at_its_own_step(x: Any, tmp_path: Path, bad_step: int) -> None:
    def train() -> None:
        with Monitor(lake=tmp_path, quiet=True) as monitor:
            for step in monitor.steps(range(8)):
                monitor.log(loss=compute(x, float("nan") if step == bad_step else 1.0))

    with pytest.raises(AndonStop, match=f"loss is nan at batch {bad_step}, step {bad_step}"):
        train()
    assert len(values(tmp_path)) <= bad_step + 3


def test_an_array_that_a_later_step_reuses_is_named(
    x: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What `donate_argnums` gave away before it was there is lost, and said."""
    reuse = jax.jit(lambda value: value + 1, donate_argnums=0)
    with Monitor(lake=tmp_path, quiet=True, interval_seconds=3600) as monitor:
        loss = compute(x, 1.0)
        assert not loss.is_ready()
        monitor.log(loss=loss, lr=0.1)
        reuse(loss)
    assert monitor.bad_values == 1
    (said,) = [message for message in caplog.messages if "did not arrive" in message]
    assert said.startswith("loss did not arrive from its device (")
    assert said.endswith("has been deleted.); not recorded. Log what a later step may free with lazy=False.")


def test_lazy_false_waits(x: Any, tmp_path: Path) -> None:
    with Monitor(lake=tmp_path, quiet=True, lazy=False) as monitor:
        loss = compute(x, 1.0)
        monitor.log(loss=loss)
        assert loss.is_ready()


def test_what_cannot_be_one_number_is_refused(x: Any, tmp_path: Path, caplog: Any) -> None:
    with Monitor(lake=tmp_path, quiet=True) as monitor:
        monitor.log(loss=x, a=1.0)
        monitor.log(loss=jnp.asarray(1j), a=2.0)
        jax.jit(lambda value: monitor.log(loss=value))(1.0)
    assert monitor.bad_values == 3
    assert caplog.messages[0].startswith("loss must be one number, got ")


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_an_example_of_the_page_runs(number: int, tmp_path: Path) -> None:
    script = tmp_path / "example.py"
    script.write_text(EXAMPLES[number])
    done = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert [step for step, _ in values(tmp_path / "entrenar-lake")] == [*range(20)]
