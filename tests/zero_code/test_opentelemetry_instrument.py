"""Under `opentelemetry-instrument`, whose SDK stands behind ours."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from entrenar_otel.lake import Lake
from tests.zero_code.programs import EVERY, OURS, TRAIN, counts

Program = Callable[..., Any]
NO_EXPORT = {f"OTEL_{signal}_EXPORTER": "none" for signal in ("TRACES", "LOGS", "METRICS")}


def test_a_provider_with_our_reader_is_left_alone(
    program: Program, tmp_path: Path, instrumented: tuple[str, ...]
) -> None:
    """Its reader records already: in front of it, nothing would reach it."""
    program(
        """
        from opentelemetry import metrics
        from opentelemetry.sdk.metrics import AlwaysOnExemplarFilter, MeterProvider
        from entrenar_otel.sdk import TrainingMetricReader, training_views

        provider = MeterProvider(
            [TrainingMetricReader()], views=training_views(), exemplar_filter=AlwaysOnExemplarFilter()
        )
        metrics.set_meter_provider(provider)
        loss = metrics.get_meter("mine").create_gauge("training.loss")
        for step in range(20):
            loss.set(1.0, {"step": step})
        """,
        launcher=instrumented,
        OTEL_PYTHON_CONFIGURATOR="none",
    )
    assert counts(tmp_path) == [("loss", 20)]


def test_under_opentelemetry_instrument(
    program: Program, tmp_path: Path, instrumented: tuple[str, ...]
) -> None:
    """Its SDK exports one series per metric and not one per step, under a name; the lake has every sample."""
    done = program(
        TRAIN.replace('"seconds"', '"training.seconds"').replace('"seen"', '"training.seen"'),
        launcher=instrumented,
        **(NO_EXPORT | {"OTEL_METRICS_EXPORTER": "console"}),
    )
    assert counts(tmp_path) == EVERY
    assert '"step"' not in done.stdout
    assert done.stdout.count('"name": "training.loss"') == 1
    assert '"service.name": "train"' in done.stdout
    assert "unknown_service" not in done.stdout
    assert "the MeterProvider that was set stays behind the recording" in done.stderr


def test_under_opentelemetry_instrument_by_name(
    program: Program, tmp_path: Path, instrumented: tuple[str, ...]
) -> None:
    """With our provider's name every instrument of the program is recorded, under the service's name."""
    program(TRAIN, launcher=instrumented, **OURS, **NO_EXPORT, OTEL_SERVICE_NAME="digits")
    assert counts(tmp_path) == EVERY
    assert Lake(tmp_path / "lake").runs()[0].model_id == "digits"


def test_other_programs_under_opentelemetry_instrument(
    program: Program, tmp_path: Path, instrumented: tuple[str, ...]
) -> None:
    """One that trains nothing has no run, and its metrics are exported as ever."""
    done = program(
        "from opentelemetry import metrics\nmetrics.get_meter('web').create_counter('requests').add(3)\n",
        launcher=instrumented,
        **(NO_EXPORT | {"OTEL_METRICS_EXPORTER": "console"}),
    )
    assert done.stdout.count('"name": "requests"') == 1
    assert not (tmp_path / "lake").exists()
    assert "entrenar" not in done.stdout + done.stderr


def test_disabled_under_opentelemetry_instrument(
    program: Program, tmp_path: Path, instrumented: tuple[str, ...]
) -> None:
    """ENTRENAR_DISABLED leaves the SDK's provider as it is."""
    done = program(
        TRAIN + "print(type(metrics.get_meter_provider()).__module__)\n",
        launcher=instrumented,
        **NO_EXPORT,
        ENTRENAR_DISABLED="1",
    )
    assert done.stdout == "opentelemetry.sdk.metrics._internal\n"
    assert not (tmp_path / "lake").exists()
