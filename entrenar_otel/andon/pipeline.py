"""Alert pipeline: from the samples of a tick to whoever must know that something is abnormal.

samples → Judge → alerts → AlertReporter: event · metric · handlers · incident
                         → Andon, which acts in the loop
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from entrenar_processors import Coordinates, Finding, Processor, Samples, Series, Severity, Summaries
from entrenar_processors.alert import Action, Alert, Rule
from entrenar_processors.config.build import STALLED, policy_of, processors_of
from entrenar_processors.config.models import AndonSettings, Config
from entrenar_processors.expression import Lookup, lookup_in
from entrenar_processors.policy import summary_of
from entrenar_processors.stats.two_sample import DriftDetector

from entrenar_otel import errors
from entrenar_otel.andon import pictures, reports
from entrenar_otel.andon.andon import Andon
from entrenar_otel.andon.control_alerts import ControlAlerts
from entrenar_otel.andon.incidents import Incidents
from entrenar_otel.andon.judging.epoch_times import EpochTimes
from entrenar_otel.andon.judging.judge import Judge, Points
from entrenar_otel.andon.judging.measurements import Measurements
from entrenar_otel.andon.judging.numerical_warnings import NumericalWarnings
from entrenar_otel.andon.judging.stall_watch import LoopPlace, StallWatch
from entrenar_otel.andon.judging.unwatched import Unwatched
from entrenar_otel.andon.judging.user_processor import user_processors
from entrenar_otel.andon.reporter import AlertReporter
from entrenar_otel.andon.run_context import RunContext
from entrenar_otel.andon.settings import AndonConfig
from entrenar_otel.clock import RunClock
from entrenar_otel.console import logger
from entrenar_otel.delivery.deadline import Deadline
from entrenar_otel.errors import ConfigError, guard
from entrenar_otel.handlers import Deliveries, Log, RunInfo, from_environment
from entrenar_otel.lake.incident import STACKS
from entrenar_otel.recording.process.control import CONTROL

if TYPE_CHECKING:
    from entrenar_otel.andon.judging.budget_watch import BudgetWatch
    from entrenar_otel.lake import Lake
    from entrenar_otel.lake.records.runs import RunRecord
    from entrenar_otel.otel.metrics.run_state import RunState
    from entrenar_otel.otel.traces.run_spans import RunSpans
    from entrenar_otel.recording.recorder import Recorder

#: How much more of memory, or of what a check was given, is recorded anew while the run goes on.
_WORTH_RECORDING = 1.05


class AlertPipeline:
    """Judges a run, and reports and acts on what is abnormal.

    `consume` and `on_tick` are the heartbeat's, `bad_loss` the recorder's, `andon` the loop's. `processors`
    are the program's own, judged along with those of `config`.
    """

    def __init__(
        self,
        recorder: Recorder,
        lake: Lake,
        record: RunRecord,
        spans: RunSpans,
        state: RunState,
        config: Config,
        alerting: AndonConfig,
        *,
        budgets: BudgetWatch | None = None,
        drift_detector: DriftDetector | None = None,
        processors: Sequence[Processor] = (),
        clock: RunClock,
        loop: Callable[[], LoopPlace] = lambda: ("unknown", None),
        interval_seconds: float = 1.0,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        settings, losses = config.monitor.andon, state.losses
        self.budgets = budgets
        #: The run's summaries, for budgets over them.
        self.summaries: Summaries | None = None
        self._spans, self._clock = spans, clock
        self._judging = threading.RLock()
        self._warnings = NumericalWarnings(losses.counter("warnings", "alert pipeline"))
        policy = policy_of(config)
        losses.watch("findings", "shared alert", lambda: policy.shared)
        self.judge = Judge(
            processors_of(config.monitor, drift_detector, failed=_say_missing),
            policy,
            user_processors(processors, policy, losses.counter("findings", "shared rule")),
            lost=losses.counter("findings", "training.anomalies"),
        )
        self.incidents = Incidents(
            lake, record, config, clock=clock, lost=losses.counter("incidents", "alert pipeline")
        )
        handlers = _handlers(alerting, settings, environ) if record.rank == 0 else []
        self.deliveries = Deliveries(handlers, failures=state.failures, losses=losses)
        run = RunInfo(
            record.run_id, record.attempt, record.rank, record.world_size, record.model_id, lake.url
        )
        self._reporter = AlertReporter(
            spans, self.incidents, self.deliveries, run, lost=losses.counter("findings", "events")
        )
        stalled = config.monitor.stalled
        self._stall_watch = (
            StallWatch(stalled, loop, recorder.coordinates, interval_seconds) if stalled.enabled else None
        )
        self.incidents.texts_of = self._texts_of
        self._epoch_times = EpochTimes(config.monitor.data_wait, spans.event)
        self._measurements = Measurements(spans.event, lost=losses.counter("findings", "events"))
        self._unwatched = Unwatched(() if processors else self.judge.processors, logger.warning)
        self._commands = ControlAlerts(self.judge, self._reporter, clock.time_ns)
        self.context = RunContext(
            recorder, lake, record, state, reporter=self._reporter, commands=self._commands, clock=clock
        )
        self.andon = Andon(
            self.context,
            pause_timeout_seconds=alerting.pause_timeout_seconds or settings.pause_timeout_seconds,
            after_pause=alerting.after_pause or settings.after_pause,
            agree=alerting.agree,
            seconds=lambda: clock.monotonic_ns() / 1e9,
            lost=losses.counter("alerts", "loop"),
        )
        state.more = self._metrics

    def start(self) -> None:
        """Start the threads of handlers and incidents: at the exit of the process none can be started."""
        self.deliveries.start()
        self.incidents.worker.start()
        for made in (self.incidents.reports, self.incidents.pictures):
            if made.is_wanted:
                made.worker.start()

    def claimed(self, record: RunRecord) -> None:
        """The lake has said which attempt this is."""
        self.incidents.record = record
        self._reporter.run = replace(self._reporter.run, attempt=record.attempt)

    # -- the heartbeat's thread -----------------------------------------------------------------

    def consume(self, samples: Samples) -> None:
        """Judge the samples of a tick."""
        if self._stall_watch is not None:
            self._stall_watch.consume(samples)
        self._raise_for(self.judge.judge(samples) + self._epoch_times.update(samples))
        self._measurements.end(self.judge.newest.epoch)
        self._unwatched.look(samples)

    def on_warning(self, warning: Mapping[str, Any]) -> None:
        """A warning was raised in the run, on this thread; judged at the next tick."""
        self._warnings.add(warning, self.context.here())

    def on_tick(self) -> None:
        """What is due without new samples: warnings, budgets, episodes that end, commands, incidents."""
        self._raise_for(self._warnings.take())
        self._look_for_stall()
        if self.budgets is not None:
            self.budgets.on_tick(self._lookup())
            self.judge_budgets()
            self._record_facts(self.budgets, _WORTH_RECORDING)
        self._decide([])
        if not self.andon.is_paused:  # else the paused loop looks itself, and sooner
            with guard("control"):
                self._obey_command()
        self.incidents.on_tick()

    def _look_for_stall(self) -> None:
        if self._stall_watch is None or self.andon.is_closed:
            return
        with guard("stall watch"):
            seconds, paused = self._clock.monotonic_ns() / 1e9, self.andon.is_paused
            self._raise_for(self._stall_watch.on_tick(seconds, self._clock.time_ns(), is_paused=paused))

    def _texts_of(self, alert: Alert) -> Mapping[str, str]:
        if alert.source == STALLED and self._stall_watch is not None:
            return {STACKS: self._stall_watch.stacks}
        return {}

    def on_clock_step(self, shift_ns: int) -> None:
        """The run's clock was moved: what is measured from earlier times is moved along."""
        self.judge.on_clock_step(shift_ns, self._clock.time_ns())

    def judge_budgets(self) -> None:
        """Raise alerts for the budgets that were exceeded since the last time; on any thread."""
        if self.budgets is None:
            return
        with self._judging:  # else an end could be decided about before its beginning
            findings = self.budgets.findings(self.context.here())
            if not all(finding.resolved for finding in findings):
                self._record_facts(self.budgets)
            self._raise_for(findings)

    def unresolved_stop(self) -> str | None:
        """What the loop was last stopped for, where that is not over."""
        stopped = self.andon.stopped
        if stopped is None:
            return None
        firing = {alert.episode for alert in self.judge.active}
        return stopped.summary if stopped.source == CONTROL or stopped.episode in firing else None

    def close(self) -> None:
        """The run ends, and with it all episodes."""
        self.andon.close()
        self._raise_for(self._warnings.take())
        if self.budgets is not None:
            self.budgets.close(self._lookup())
            self.judge_budgets()
            self._record_facts(self.budgets)
        self._raise_for(self._epoch_times.end())
        self._measurements.end()
        for alert in self.judge.finish(self._clock.time_ns()):
            self._report(alert)
        self.judge.close()
        self._commands.close()
        self.context.close()

    def wait(self, timeout_seconds: float) -> None:
        """Let incidents and handlers finish; bounded."""
        self._reporter.close(timeout_seconds)

    def wait_for_pictures(self, timeout_seconds: float) -> None:
        """Let incidents' report be written and pictures be drawn: the last thing that anybody waits for."""
        deadline = Deadline(timeout_seconds)
        self.incidents.reports.close(min(reports.END_SECONDS, timeout_seconds))
        self.incidents.pictures.close(min(pictures.END_SECONDS, deadline.left()))

    def report_finding(self, finding: Finding, rule: Rule) -> None:
        """Decide about a finding of the program's own, by its rule; on any thread."""
        with self._judging:
            if self.judge.policy.rule_of(finding.detector) is None:
                self.judge.policy.admit(rule)
            self._raise_for([finding])

    # -- the loop's thread ----------------------------------------------------------------------

    def bad_loss(
        self, series: Series, value: float, epoch: int | None, batch: int | None, step: int | None
    ) -> None:
        """A training loss that is not finite was just recorded: judged in the call that logged it."""
        if self.andon.is_closed:  # nothing is recorded any more
            return
        at = Coordinates.at(self._clock.time_ns(), epoch, batch, step)
        # Of count 0: the heartbeat will find the same sample, and counts it.
        finding = Finding("nonfinite.loss", series, Severity.HIGH, at, value, 0.0, 1.0, count=0)
        if self._decide([finding]):
            return
        rule = self.judge.policy.rule_of(finding.detector)
        for alert in self.judge.active:  # the same episode: a loop that went on is stopped again
            same = rule and alert.name == rule.name and alert.series in (series, None)
            if rule and same and alert.action is Action.STOP:
                summary = summary_of(rule, finding, series)
                self.andon.schedule(replace(alert, value=value, at=at, summary=summary))

    # -- inside ---------------------------------------------------------------------------------

    def _raise_for(self, findings: Sequence[Finding]) -> None:
        """Raise the alerts that the policy decides on for these findings."""
        if findings:
            told = []
            for finding in findings:
                if self.judge.policy.is_logged(finding):
                    self._measurements.add(finding)
                else:
                    told.append(finding)
            self._reporter.report_findings(told)
            self._decide(findings)

    def _decide(self, findings: Sequence[Finding]) -> bool:
        """Whether any alert was raised or resolved."""
        alerts = self.judge.decide(findings, self._clock.time_ns())
        for alert in alerts:
            self._report(alert)
        return bool(alerts)

    def _report(self, alert: Alert) -> None:
        self._reporter.report(alert)
        self.andon.schedule(alert)

    def _obey_command(self) -> None:
        request = self.context.take_command()
        if request is not None and (alert := self.andon.handle(request)) is not None:
            self._commands.report(alert)
            self.andon.schedule(alert)

    def _record_facts(self, budgets: BudgetWatch, growth: float = 1.0) -> None:
        for name, attributes in budgets.new_facts(growth):
            self._spans.event(name, attributes)

    def _lookup(self) -> Lookup | None:
        return lookup_in(self.summaries) if self.summaries is not None else None

    def _metrics(self) -> dict[str, Points]:
        usage = self.budgets.usage() if self.budgets is not None else []
        return self.judge.metrics() | {
            "training.budget.usage": [({"budget": budget.budget}, budget.usage) for budget in usage],
            "training.budget.limit": [
                ({"budget": budget.budget, "unit": budget.unit}, budget.limit) for budget in usage
            ],
        }


def _say_missing(name: str, error: Exception) -> None:
    """A detector that the settings ask for cannot be made: said and counted, and the others judge."""
    errors.failures[f"detector {name}"] += 1
    logger.warning("the detector %s is off (%s); the others judge this run", name, error)


def _handlers(alerting: AndonConfig, settings: AndonSettings, environ: Mapping[str, str]) -> list[Any]:
    """Who receives alerts."""
    handlers: list[Any] = [Log()]
    if settings.page_via == "process":
        handlers += alerting.handlers
        try:
            handlers += from_environment(environ, settings)
        except ConfigError as error:  # what is optional does not end a run, or its judge
            logger.warning("%s; alerts do not go there", error)
    return handlers
