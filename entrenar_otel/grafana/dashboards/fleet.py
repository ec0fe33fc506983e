"""The dashboard *Fleet*: all runs and how they are, the slowest ranks, and the way from runs to the lake."""

from __future__ import annotations

from typing import Any

from entrenar_processors.config.models import Config

from entrenar_otel.grafana.dashboards.measured import computing, now, of_split
from entrenar_otel.grafana.dashboards.page import CHOSEN, RUN_PAGE, Row, page
from entrenar_otel.grafana.dashboards.panels import (
    NO_LIMITS,
    Limits,
    Query,
    chart,
    number,
    rows,
    states,
    timeline,
)
from entrenar_otel.grafana.links import what_to_do
from entrenar_otel.grafana.promql import collector_counter, latest, series
from entrenar_otel.grafana.rules.quiet import CRASHED, STALLED_SECONDS
from entrenar_otel.semconv import RUN_STATES

_RUN = ("run_id", "model_id")
_NONE = "no sink or Collector is scraped"


def fleet_dashboard(_settings: Config) -> Any:
    """All runs."""
    made = [_head(), _runs(), _ranks(), *_pipeline()]
    return page(
        "entrenar-fleet",
        "Training fleet",
        "All runs, and the way from them to the lake.",
        made,
        one_run=False,
        ranks=False,
    )


def _state(name: str) -> str:
    return f"max by (run_id) ({now('training.run.state')}) == {RUN_STATES[name]}"


def _head() -> Row:
    alerts = f"sum({now('training.alert.active', by=('run_id', 'rank', 'name', 'level'))})"
    beats = series("entrenar.tick.duration", *CHOSEN, suffix="_count")
    lives = f"on (run_id) max by (run_id) (increase({beats}[5m])) > 0"
    step = f"max by (run_id) ({now('training.last_step.timestamp')})"
    stalled = f"(time() - {step} > {STALLED_SECONDS}) and on (run_id) {_state('running')} and {lives}"
    heard = latest(series("training.run.state", *CHOSEN), *CHOSEN, over="1h")
    lost = f"max by (run_id) ({heard}) < {RUN_STATES['stopped']} unless {lives} unless on (run_id) {CRASHED}"
    return Row(
        [
            (_count("Running", "Runs that go on.", f"{_state('running')} and {lives}", is_fault=False), 3),
            (_count("Paused", "Paused by an alert: `entrenar-otel resume RUN` or `stop RUN`.",
                    _state("paused")), 3),
            (_count("Stalled", "They live and made no step for five minutes: they hang, or log rarely: "
                    f"{what_to_do('TrainingStalled')}.", stalled), 3),
            (_count("Lost", "They went on within the last hour, and nothing has been heard of them for "
                    f"five minutes: {what_to_do('TrainingLost')}.", lost), 3),
            (_count("Crashed today", "By the sink, not resumed since: `entrenar-otel show RUN`.",
                    f"count by (run_id) ({CRASHED})"), 3),
            (_count("Stopped", "By an alert or by a person, of the last hour: `entrenar-otel show RUN`.",
                    _state("stopped"), is_fault=False), 3),
            (number("Active alerts", "none", "See the table; `entrenar-otel alerts RUN` says what and where.",
                    Query(alerts), limits=Limits(high=1), empty="0"), 3),
            (_count("Completed", "Runs that ended well, of the last hour.",
                    _state("completed"), is_fault=False), 3),
        ],
        height=4,
    )  # fmt: skip


def _count(title: str, description: str, of: str, *, is_fault: bool = True) -> Any:
    limits = Limits(high=1) if is_fault else NO_LIMITS
    return number(title, "none", description, Query(f"count({of})"), limits=limits, empty="0")


def _of_runs(expr: str) -> Query:
    return Query(f"max by ({', '.join(_RUN)}) ({expr})", instant=True, table=True)


def _runs() -> Row:
    by = (*_RUN, "rank")
    loss = of_split("loss", validation=False).replace("max by (run_id, rank)", f"max by ({', '.join(by)})", 1)
    active = now("training.alert.active", by=(*by, "name", "level"))
    since = f"time() - max by ({', '.join(_RUN)}) ({now('training.last_step.timestamp', by=by)})"
    columns = {
        "State": (_of_runs(now("training.run.state", by=by)), "none", states()),
        "Epoch": (_of_runs(now("training.progress.epoch", by=by)), "locale", ()),
        "Step": (_of_runs(now("training.progress.step", by=by)), "locale", ()),
        "Since the last step": (Query(since, instant=True, table=True), "s", ()),
        "Loss": (_of_runs(loss), "short", ()),
        "Alerts": (
            Query(f"sum by ({', '.join(_RUN)}) ({active})", instant=True, table=True),
            "none",
            (),
        ),
    }
    table = rows(
        "Runs", "A run that is not here sends no metrics. Crashed: "
        f"{what_to_do('TrainingCrashed')}; long since the last step: {what_to_do('TrainingStalled')}.",
        columns, names={"run_id": "Run", "model_id": "Model"}, sort="State", descending=False,
        links={"Run": RUN_PAGE},
        empty="no run sends metrics: set OTEL_EXPORTER_OTLP_ENDPOINT or OTEL_METRICS_EXPORTER=prometheus",
    )  # fmt: skip
    return Row([(table, 24)], height=10, title="Runs")


def _ranks() -> Row:
    slowest = Query(f"topk(10, {computing()})", instant=True, table=True)
    table = rows(
        "Slowest ranks",
        "Mean step of the last minutes, less its data wait. One rank far above its run's others: look at its "
        "machine; ranks that wait for each other in every step are all as slow as the slowest.",
        {"Compute": (slowest, "s", ())}, names={"run_id": "Run", "rank": "Rank"},
        sort="Compute", descending=True, links={"Run": RUN_PAGE},
        empty="no run times its steps (monitor.steps)",
    )  # fmt: skip
    state = Query(f"max by (run_id) ({now('training.run.state')})", "{{run_id}}")
    line = timeline(
        "States", "A gap: nothing was heard of the run.", state, mappings=states(), empty="no runs"
    )
    return Row([(line, 14), (table, 10)], height=8)


def _pipeline() -> list[Row]:
    queue = "max by (exporter, data_type) (otelcol_exporter_queue_size / otelcol_exporter_queue_capacity)"
    kinds = ("log_records", "metric_points", "spans")
    refused = [
        Query(
            f"sum(rate({collector_counter(f'receiver_refused_{kind}')}[$__rate_interval]))", f"refused {kind}"
        )
        for kind in kinds
    ]
    failed = [
        Query(f"sum({collector_counter(f'exporter_send_failed_{kind}')})", f"dropped {kind}")
        for kind in kinds
    ]
    return [
        Row(
            [
                (chart("Sink: behind the runs", "s", "How long the oldest request has waited for the lake. "
                       f"It should stay below ten seconds: {what_to_do('SinkBehind')}.",
                       Query("max by (instance) (entrenar_sink_lag_seconds)", "{{instance}}"),
                       limits=Limits(high=60), low=0, empty=_NONE), 8),
                (chart("Sink: waiting", "bytes", "What has arrived and is not in the lake yet, on the "
                       "sink's disk. A steady rise: the lake cannot be written: "
                       f"{what_to_do('SinkCannotWrite')}.",
                       Query("max by (instance) (entrenar_sink_backlog_bytes)", "{{instance}}"),
                       low=0, empty=_NONE), 8),
                (chart("Sink: stored", "none", "Values per second, and what was refused or could not be "
                       "stored; of the latter the sink's output names the first.",
                       Query("sum(rate(entrenar_sink_samples_total[$__rate_interval]))", "values/s"),
                       Query("sum(rate(entrenar_sink_refused_total[$__rate_interval]))", "refused/s"),
                       Query("sum(rate(entrenar_sink_unstorable_total[$__rate_interval]))", "unstorable/s"),
                       low=0, empty=_NONE), 8),
            ],
            title="From runs to the lake",
        ),
        Row(
            [
                (chart("Collector: queue", "percentunit", "How full it is. It fills while the sink is away, "
                       "and empties after; full, runs keep what they have.",
                       Query(queue, "{{exporter}} {{data_type}}"),
                       limits=Limits(high=0.8), low=0, empty=_NONE), 8),
                (chart("Collector: refused", "none", "Per second, to senders, who come again: the queue, "
                       "the memory or the disk was full.", *refused, low=0, empty="nothing was refused"), 8),
                (chart("Collector: dropped", "none", "In all since it started, for good. It should be 0: a "
                       "wrong token, or a record that is too large.",
                       *failed, low=0, empty="nothing was dropped"), 8),
            ]
        ),
    ]  # fmt: skip
