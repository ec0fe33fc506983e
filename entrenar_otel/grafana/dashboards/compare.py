"""The dashboard *Compare*: several runs in the same panels."""

from __future__ import annotations

from typing import Any

from entrenar_processors.config.models import Config

from entrenar_otel.grafana.dashboards.measured import (
    STEP,
    drift_limit,
    learning,
    limits_of,
    mean_of,
    now,
    of_split,
    rate,
    step_quantiles,
)
from entrenar_otel.grafana.dashboards.page import Row, page
from entrenar_otel.grafana.dashboards.panels import (
    Limits,
    Query,
    chart,
    runs_by_step,
    states,
    timeline,
)

_RUN = "{{run_id}}"
_NAMES = "{{run_id}} rank {{rank}}"


def compare_dashboard(settings: Config) -> Any:
    """Several runs."""
    return page(
        "entrenar-compare",
        "Compare training runs",
        "Several runs side by side: choose them above.",
        [*_learning(settings), *_speed(settings), *_judged(settings)],
        one_run=False,
        ranks=True,
    )


def _learning(settings: Config) -> list[Row]:
    step = Query(f"max by (run_id) ({now('training.progress.step')})", table=True)
    loss = Query(f"max by (run_id) ({of_split('loss', validation=False)})", table=True)
    return [
        Row(
            [
                (chart("Loss", "short", "Which run falls faster and further. By the clock: a resumed run "
                       "has a gap.",
                       *learning("loss", _NAMES), limits=limits_of(settings, "loss")), 12),
                (runs_by_step("Loss by step", "Whether a run learns more from a step. Points are "
                              "aggregates, five seconds apart; every step: `entrenar-otel plot RUN -o "
                              "run.png`.", step, loss), 12),
            ],
            height=10,
            title="How they learn",
        ),
        Row(
            [
                (chart("Accuracy", "percentunit", "Which run is better. A run that falls behind: compare "
                       "its learning rate.",
                       *learning("accuracy", _NAMES), limits=limits_of(settings, "accuracy")), 12),
                (chart("Learning rate", "sci", "The schedule of each; differences here explain those above.",
                       Query(now("training.learning_rate"), _NAMES),
                       limits=limits_of(settings, "learning_rate")), 6),
                (chart("Gradient norm", "short", "A run far above the others is near divergence.",
                       Query(now("training.gradient.norm"), _NAMES), log=True,
                       limits=limits_of(settings, "gradient_norm")), 6),
            ]
        ),
    ]  # fmt: skip


def _speed(settings: Config) -> list[Row]:
    return [
        Row(
            [
                (chart("Step time, quantiles", "s", "P99 far above P50: stragglers. The same model slower: "
                       "other machines, or data.",
                       *step_quantiles(_RUN), limits=limits_of(settings, "step_duration"), low=0), 12),
                (chart("Step time by rank", "s", "The slowest rank sets the pace of its run.",
                       Query(mean_of(STEP), _NAMES), limits=limits_of(settings, "step_duration"), low=0), 12),
            ],
            title="How fast",
        ),
        Row(
            [
                (chart("Samples", "none", "Per second, all ranks of a run.",
                       Query(f"sum by (run_id) ({rate('training.samples')})", _RUN), low=0), 8),
                (chart("Tokens", "none", "Per second, all ranks of a run.",
                       Query(f"sum by (run_id) ({rate('training.tokens')})", _RUN), low=0), 8),
                (chart("Data wait", "s", "Near the step time: the run waits for its data, not for the model.",
                       Query(mean_of("training.data_wait.duration"), _NAMES),
                       limits=limits_of(settings, "data_wait"), low=0), 8),
            ]
        ),
    ]  # fmt: skip


def _judged(settings: Config) -> list[Row]:
    found = now("training.anomalies", by=("run_id", "rank", "metric", "detector", "severity"))
    odd = now("training.nonfinite", by=("run_id", "rank", "metric"))
    active = now("training.alert.active", by=("run_id", "rank", "name", "level"))
    return [
        Row(
            [
                (timeline("States", "A gap: nothing was heard of the run.",
                          Query(f"max by (run_id) ({now('training.run.state')})", _RUN),
                          mappings=states()), 12),
                (chart("Active alerts", "none", "`entrenar-otel alerts RUN` says what was abnormal, and "
                       "where.",
                       Query(f"sum by (run_id) ({active})", _RUN), limits=Limits(high=1), low=0), 12),
            ],
            title="What was judged",
        ),
        Row(
            [
                (chart("Anomalies", "none", "What detectors found, in all, what is only logged included: "
                       "`entrenar-otel events RUN`.",
                       Query(f"sum by (run_id, detector) ({found})", "{{detector}} {{run_id}}"), low=0,
                       empty="no anomalies"), 8),
                (chart("Drift, p-value", "none", "Below the line accuracy became worse than its best window "
                       "by more than chance.",
                       Query(now("training.drift.p_value", by=("run_id", "metric")), "{{metric}} {{run_id}}"),
                       limits=drift_limit(settings), low=0, empty="no drift was found"), 8),
                (chart("Not finite", "none", "NaN and infinite values, in all. A few infinite gradient norms "
                       "are normal with loss scaling.",
                       Query(f"sum by (run_id, metric) ({odd})", "{{metric}} {{run_id}}"), low=0,
                       empty="all values were finite"), 8),
            ]
        ),
        Row(
            [
                (chart("Budgets used", "percentunit", "Above 100 % a budget of renacer.toml is exceeded.",
                       Query(now("training.budget.usage", by=("run_id", "budget")), "{{budget}} {{run_id}}"),
                       limits=Limits(high=1), low=0, empty="no budgets in renacer.toml"), 12),
                (chart("Monitoring overhead", "percentunit", "The share of time that monitoring takes of "
                       "each.",
                       Query(now("entrenar.overhead"), _NAMES), low=0), 12),
            ]
        ),
    ]  # fmt: skip
