"""The dashboard *Run*: how one run learns, how fast, on what machine, what was judged abnormal."""

from __future__ import annotations

from typing import Any

from entrenar_processors.config.models import Config

from entrenar_otel.grafana.dashboards.machine import machine
from entrenar_otel.grafana.dashboards.measured import (
    STEP,
    drift_limit,
    learning,
    limits_of,
    mean_of,
    now,
    rate,
    step_quantiles,
)
from entrenar_otel.grafana.dashboards.page import CHOSEN, RUN_UID, Row, page
from entrenar_otel.grafana.dashboards.panels import (
    Limits,
    Query,
    buckets,
    by_step,
    chart,
    number,
    states,
    timeline,
    yes_or_no,
)
from entrenar_otel.grafana.links import what_to_do
from entrenar_otel.grafana.promql import series
from entrenar_otel.grafana.rules.quiet import STALLED_SECONDS
from entrenar_otel.semconv import RUN_STATES

_RANK = "rank {{rank}}"
_FULL_RATE = (
    "Points are aggregates, five seconds apart; a run that logs no step has none. "
    "Every step, at full rate: `entrenar-otel plot $run -o run.png`."
)


def run_dashboard(settings: Config) -> Any:
    """One run."""
    rows = [
        _head(),
        *_learning(settings),
        *_speed(settings),
        *machine(),
        *_judged(settings),
        *_itself(),
    ]
    return page(
        RUN_UID,
        "Training run",
        "One run: how it learns, how fast, what was judged abnormal.",
        rows,
        one_run=True,
        ranks=True,
    )


def _head() -> Row:
    goes_on = f"and on () min({now('training.run.state')}) < {RUN_STATES['stopped']}"  # a rank of it
    since = f"time() - max({now('training.last_step.timestamp')}) {goes_on}"
    running = f"time() - min({now('training.run.start.timestamp')}) {goes_on}"
    active = f"sum({now('training.alert.active', by=('run_id', 'rank', 'name', 'level'))})"
    return Row(
        [
            (number("State", "none", "Crashed or stopped: `entrenar-otel show $run` says why. Several "
                    "ranks: the furthest state of any.",
                    Query(f"max({now('training.run.state')})"), mappings=states()), 4),
            (number("Step", "locale", "Where the run is. It should rise; see the next panel when it does "
                    "not.",
                    Query(f"max({now('training.progress.step')})")), 4),
            (number("Since the last step", "s", "Until it ended. Minutes: the run hangs, or its loop logs "
                    "rarely: "
                    f"{what_to_do('TrainingStalled')}.",
                    Query(since), limits=Limits(high=STALLED_SECONDS)), 4),
            (number("Epoch", "locale", "The epoch of the latest sample.",
                    Query(f"max({now('training.progress.epoch')})")), 4),
            (number("Running for", "s", "Until it ended, since this attempt began; an earlier one of the "
                    "same run is not counted.",
                    Query(running)), 4),
            (number("Active alerts", "none", "More than 0: see Alerts below, then `entrenar-otel alerts "
                    "$run`.",
                    Query(active), limits=Limits(high=1)), 4),
        ],
        height=4,
    )  # fmt: skip


def _learning(settings: Config) -> list[Row]:
    end = "end()"
    step = Query(f"max by (run_id) ({now('training.progress.step', at=end)})", "step")
    losses = [
        Query(f"max by (run_id) ({query.expr})", query.legend) for query in learning("loss", "", at=end)
    ]
    return [
        Row(
            [
                (chart("Loss", "short", "It should fall. Validation that rises while train falls: "
                       "overfitting. NaN is no point: see Not finite.",
                       *learning("loss", _RANK), limits=limits_of(settings, "loss")), 12),
                (chart("Accuracy", "percentunit", "It should rise. A fall: overfitting, or the data "
                       "changed; keep the checkpoint of the best step (`entrenar-otel show $run`).",
                       *learning("accuracy", _RANK),
                       limits=limits_of(settings, "accuracy")), 12),
            ],
            title="How it learns",
        ),
        Row(
            [
                (by_step("Loss by step", f"Of the latest attempt. {_FULL_RATE}", step, *losses,
                         limits=limits_of(settings, "loss")), 12),
                (chart("Learning rate", "sci", "As scheduled. Flat at 0: nothing is learnt any more. A step "
                       "down without a schedule: `reduce_lr` acted.",
                       Query(now("training.learning_rate", by=("rank", "parameter_group")),
                             "rank {{rank}} {{parameter_group}}"),
                       limits=limits_of(settings, "learning_rate")), 6),
                (chart("Gradient norm", "short", "Rising for long: lower the learning rate or clip. Near 0: "
                       "gradients vanish.",
                       Query(now("training.gradient.norm", by=("rank", "parameter_group")),
                                        "rank {{rank}} {{parameter_group}}"),
                       limits=limits_of(settings, "gradient_norm"), log=True), 6),
            ]
        ),
    ]  # fmt: skip


def _speed(settings: Config) -> list[Row]:
    heat = Query(f"sum by (le) ({rate(STEP, 'le', suffix='_bucket')})", "{{le}}", heatmap=True)
    return [
        Row(
            [
                (buckets("Step time", "s", "Where the mass is. A second band: some steps wait, for data, a "
                         "checkpoint or another rank.", heat), 12),
                (chart("Step time, quantiles", "s", "P99 far above P50: stragglers; compare the ranks in "
                       "the next row.",
                       *step_quantiles(), limits=limits_of(settings, "step_duration"), low=0), 12),
            ],
            title="How fast",
        ),
        Row(
            [
                (chart("Step time by rank", "s", "One rank above the others slows all: look at its machine.",
                       Query(mean_of(STEP), _RANK), limits=limits_of(settings, "step_duration"), low=0), 8),
                (chart("Throughput", "none", "Per second, all ranks. A fall with the same step time: "
                       "smaller batches.",
                       Query(f"sum by (run_id) ({rate('training.samples')})", "samples/s"),
                       Query(f"sum by (run_id) ({rate('training.tokens')})", "tokens/s"), low=0), 8),
                (chart("Data wait", "s", "The part of a step that waits for its batch. Near the step time: "
                       "more workers, or faster storage.",
                       Query(mean_of("training.data_wait.duration"), _RANK),
                       limits=limits_of(settings, "data_wait"), low=0), 8),
            ]
        ),
    ]  # fmt: skip


def _judged(settings: Config) -> list[Row]:
    active = now("training.alert.active", by=("rank", "name", "level"))
    anomalies = now("training.anomalies", by=("rank", "metric", "detector", "severity"))
    return [
        Row(
            [
                (timeline("Alerts", "Red while one is active. `entrenar-otel alerts $run` says what was "
                          f"abnormal and where; {what_to_do('What-each-alert-means')}.",
                          Query(f"{active} and on (rank, name, level) max by (rank, name, level) "
                                f"(max_over_time({series('training.alert.active', *CHOSEN)}[$__range])) == 1",
                                "{{name}} rank {{rank}}"),
                          mappings=yes_or_no("–", "active"), empty="no alert was active"), 12),
                (chart("Anomalies", "none", "What detectors found, in all, what is only logged included. "
                       "Many of one detector: `entrenar-otel events $run`.",
                       Query(f"sum by (rank, metric, detector) ({anomalies})",
                             "{{detector}} {{metric}} rank {{rank}}"), low=0, empty="no anomalies"), 12),
            ],
            title="What was judged",
        ),
        Row(
            [
                (chart("Drift, p-value", "none", "Below the line accuracy became worse than its best window "
                       "by more than chance.",
                       Query(now("training.drift.p_value", by=("rank", "metric")),
                             "{{metric}} rank {{rank}}"),
                       limits=drift_limit(settings), low=0, empty="no drift was found"), 8),
                (chart("Budgets used", "percentunit", "Above 100 % a budget of renacer.toml is exceeded: "
                       "`entrenar-otel ci $run`.", Query(now("training.budget.usage", by=("rank", "budget")),
                                                         "{{budget}} rank {{rank}}"),
                       limits=Limits(high=1), low=0, empty="no budgets in renacer.toml"), 8),
                (chart("Not finite", "none", "NaN and infinite values, in all. Of the loss: the run stops. "
                       "A few infinite gradient norms are normal with loss scaling.",
                       Query(now("training.nonfinite", by=("rank", "metric")), "{{metric}} rank {{rank}}"),
                       low=0, empty="all values were finite"), 8),
            ]
        ),
    ]  # fmt: skip


def _itself() -> list[Row]:
    dropped, failures = (
        now("entrenar.recorder.dropped"),
        now("entrenar.export.failures", by=("rank", "exporter")),
    )
    lost = now("entrenar.losses", 'what=~"samples|values"', by=("rank", "what", "who"))
    return [
        Row(
            [(timeline("State by rank", "A gap: nothing was heard. A rank that differs from the others is "
                       "where to look.",
                       Query(now("training.run.state", by=("rank",)), _RANK), mappings=states()), 24)],
            height=5,
            title="The run itself",
        ),
        Row(
            [
                (chart("Monitoring overhead", "percentunit", "The share of time that monitoring takes. "
                       "Above a few per cent: fewer series, or a longer interval_seconds.",
                       Query(now("entrenar.overhead"), _RANK), low=0), 8),
                (chart("Heartbeat", "s", "How long it takes to drain and judge, on a thread of its own. "
                       "Above interval_seconds: detectors fall behind.",
                       Query(mean_of("entrenar.tick.duration"), _RANK), low=0), 8),
                (chart("Lost by monitoring", "none", "It should be 0: docs/losses.md says what each loss "
                       "means. Exports that failed are sent again.",
                       Query(f"{dropped} > 0", "dropped rank {{rank}}"),
                       Query(f"{lost} > 0", "{{what}} {{who}}"),
                       Query(f"{failures} > 0", "export {{exporter}}"),
                       low=0, empty="nothing was lost"), 8),
            ]
        ),
    ]  # fmt: skip
