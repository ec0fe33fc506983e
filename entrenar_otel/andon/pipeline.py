"""Alert pipeline: from the samples of a tick to whoever must be told that something is abnormal.

samples → Judge → alerts → event · metric · handlers · incident · Andon, which acts in the loop.
"""

from __future__ import annotations

import logging
import math
import os
import shlex
import sys
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from entrenar_processors import Coordinates, Finding, Processor, Samples, Series, Severity, Summaries
from entrenar_processors.alert import Action, Alert
from entrenar_processors.config.build import processors_of, rules_of
from entrenar_processors.config.models import Config
from entrenar_processors.expression import Lookup, lookup_in
from entrenar_processors.policy import Policy, summary_of
from entrenar_processors.stats.two_sample import DriftDetector

from entrenar_otel.andon.andon import Andon
from entrenar_otel.andon.incidents import Incidents
from entrenar_otel.andon.judge import Judge, Points
from entrenar_otel.andon.numerical_warnings import finding_of, is_numerical
from entrenar_otel.andon.settings import AndonConfig
from entrenar_otel.andon.user_processor import SOURCE, UserProcessor, rule_for
from entrenar_otel.clock import Clock
from entrenar_otel.delivery.worker import Worker
from entrenar_otel.errors import ConfigError, guard
from entrenar_otel.handlers import Deliveries, Log, Notice, RunInfo, from_environment
from entrenar_otel.recording.control import CONTROL, ControlFile, Request

if TYPE_CHECKING:
    from entrenar_processors.budgets.verdicts import Violation

    from entrenar_otel.andon.budget_watch import BudgetWatch
    from entrenar_otel.lake import Lake
    from entrenar_otel.lake.runs import RunRecord
    from entrenar_otel.otel.metrics.run_state import RunState
    from entrenar_otel.otel.traces.run_spans import RunSpans
    from entrenar_otel.recording.recorder import Recorder

logger = logging.getLogger("entrenar_otel")

#: How long handlers may take at the end of a run.
_HANDLERS_SECONDS = 5.0
#: Findings of one tick that become events of their own; the rest is counted.
_MAX_EVENTS = 20
#: Numerical warnings that wait for the next tick.
_MAX_WARNED = 1000
#: How long a stop looks for the last finite values, which its message says.
_LOOK_BACK_SECONDS = 3.0
#: How much more of memory, or of what a check was told, is noted while the run goes on.
_WORTH_NOTING = 1.05
_ADVICE = {
    "nonfinite": "lower the learning rate, clip gradients, or look for bad data in that batch",
    "divergence": "lower the learning rate, clip gradients, or look for bad data in the last batches",
    "spike": "look for bad data in that batch, or lower the learning rate",
    "accuracy_drop": "compare the model with its last good checkpoint",
    "silent": "look at the member that is named: its input, its gradients, its warnings",
    "budget": "profile that part, or raise the limit in renacer.toml",
    "threshold": "see why it crossed the limit, or change the limit in renacer.toml",
    "control": "start it again when you are ready",
}


class AlertPipeline:
    """Judges a run and tells of it. `consume` and `on_tick` are the heartbeat's."""

    def __init__(
        self,
        recorder: Recorder,
        lake: Lake,
        record: RunRecord,
        tracing: RunSpans,
        state: RunState,
        config: Config,
        alerting: AndonConfig,
        *,
        budgets: BudgetWatch | None = None,
        drift_detector: DriftDetector | None = None,
        processors: Sequence[Processor] = (),
        clock: Clock,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        settings = config.monitor.andon
        self.world_size = record.world_size
        self._recorder, self._lake, self._record = recorder, lake, record
        self._tracing, self._state, self._clock = tracing, state, clock
        rules = [*rules_of(config), *([rule_for(SOURCE)] if processors else [])]
        policy = Policy(rules, quiet_seconds=settings.quiet_seconds)
        self.judge = Judge(
            processors_of(config.monitor, drift_detector),
            policy,
            [UserProcessor(one, policy) for one in processors],
        )
        self.andon = Andon(
            self,
            pause_timeout_seconds=alerting.pause_timeout_seconds or settings.pause_timeout_seconds,
            after_pause=alerting.after_pause or settings.after_pause,
            agree=alerting.agree,
            seconds=lambda: clock.monotonic_ns() / 1e9,
            lost=state.losses.counter("alerts", "loop"),
        )
        self._asked: dict[str, Alert] = {}  # what people asked for, as alerts, by episode
        self._control = ControlFile(str(lake.live), record.process)
        self.incidents = Incidents(
            lake,
            record,
            config.model_dump(mode="json", by_alias=True),
            limit=settings.max_incidents,
            before_seconds=settings.incident_before_seconds,
            after_seconds=settings.incident_after_seconds,
            now_ns=clock.time_ns,
            lost=state.losses.counter("incidents", "alert pipeline"),
        )
        self._judging = threading.RLock()
        self._warned: deque[Finding] = deque(maxlen=_MAX_WARNED)
        self._lost_warning = state.losses.counter("warnings", "alert pipeline")
        self._run = RunInfo(
            record.run_id, record.attempt, record.rank, record.world_size, record.model_id, lake.url
        )
        handlers: list[Any] = []
        if record.rank == 0:  # the others page nobody, and print nothing
            handlers.append(Log())
            if settings.page_via == "process":
                handlers += alerting.handlers
                try:
                    handlers += from_environment(environ, settings)
                except ConfigError as error:  # what is optional does not end a run, or its judge
                    logger.warning("%s; alerts do not go there", error)
        self.deliveries = Deliveries(handlers, failures=state.failures, losses=state.losses)
        self.budgets = budgets
        #: The run's summaries, for budgets over them.
        self.summaries: Summaries | None = None
        state.more = self._metrics

    # -- the heartbeat's side -------------------------------------------------------------------

    def consume(self, samples: Samples) -> None:
        """Judge the samples of a tick."""
        findings = self.judge.judge(samples)
        if findings:
            self.found(findings)

    def found(self, findings: Sequence[Finding]) -> None:
        """Findings of whoever makes them: processors, budgets, warnings."""
        for one in findings[:_MAX_EVENTS]:
            self._tracing.event("training.finding", one.as_dict(), at=one.at.place)
        if len(findings) > _MAX_EVENTS:
            self._tracing.event("training.finding", {"more": len(findings) - _MAX_EVENTS})
        for alert in self.judge.decide(findings, self._clock.time_ns()):
            self._tell(alert)

    def warned(self, warning: Mapping[str, Any]) -> None:
        """A warning was raised in the run, on this thread; judged at the next tick."""
        if is_numerical(warning):
            if len(self._warned) >= _MAX_WARNED:  # more between two ticks: the oldest is not judged
                self._lost_warning(1)
            self._warned.append(finding_of(warning, self.here()))

    def on_tick(self) -> None:
        """What is due without new samples: warnings, episodes that end, commands, windows of incidents."""
        self._judge_warned()
        if self.budgets is not None:
            self.budgets.on_tick(self._lookup())
            self.judge_budgets()
            self._note_facts(self.budgets, _WORTH_NOTING)
        for alert in self.judge.decide([], self._clock.time_ns()):
            self._tell(alert)
        if not self.andon.is_paused:  # else the paused loop looks itself, and sooner
            with guard("control"):
                request = self.take_command()
                if request is not None and (asked := self.andon.command(request)) is not None:
                    self._hear(asked)
                    self.andon.pull(asked)
        self.incidents.on_tick()

    def _judge_warned(self) -> None:
        found = [self._warned.popleft() for _ in range(len(self._warned))]
        if found:
            self.found(found)

    def judge_budgets(self) -> None:
        """Findings of what exceeded its budget since the last time."""
        if self.budgets is None:
            return
        at = self.here()
        with self._judging:  # else an end could be decided about before its beginning
            violations = self.budgets.new_violations()
            found = [_finding_of(one, at) for one in violations]
            found += [_kept_again(name, at) for name in self.budgets.kept_again()]
            if violations:
                self._note_facts(self.budgets)
            if found:
                self.found(found)

    def _note_facts(self, budgets: BudgetWatch, growth: float = 1.0) -> None:
        for name, attributes in budgets.new_facts(growth):
            self._tracing.event(name, attributes)

    def _lookup(self) -> Lookup | None:
        return lookup_in(self.summaries) if self.summaries is not None else None

    def _metrics(self) -> dict[str, Points]:
        usage = self.budgets.usage() if self.budgets is not None else []
        return self.judge.metrics() | {
            "training.budget.usage": [({"budget": one.budget}, one.usage) for one in usage],
            "training.budget.limit": [({"budget": one.budget, "unit": one.unit}, one.limit) for one in usage],
        }

    def close(self) -> None:
        """The run ends: so do all episodes."""
        self.andon.close()
        self._judge_warned()
        if self.budgets is not None:
            self.budgets.close(self._lookup())
            self.judge_budgets()
            self._note_facts(self.budgets)
        for alert in self.judge.finish(self._clock.time_ns()):
            self._tell(alert)
        for alert in tuple(self._asked.values()):
            self._hear(alert, resolved=True)
        self._control.close()

    def wait(self, timeout_seconds: float) -> None:
        """Let incidents and handlers finish; bounded."""
        if not self.incidents.close(timeout_seconds):
            logger.warning("incidents of run %s are not all written", self._record.run_id)
        for name in self.deliveries.close(min(timeout_seconds, _HANDLERS_SECONDS)):
            logger.warning("the alert handler %s hangs: left behind", name)

    def _tell(self, alert: Alert, *, keeps: bool = True) -> None:
        with guard("alert"):
            incident = None
            waits = (
                alert.action is Action.STOP and not alert.is_resolved
            )  # for its incident, see keep_incident
            if keeps and alert.action is not Action.LOG and not waits and not alert.is_resolved:
                incident = self.incidents.begin(alert)
            attributes = alert.as_dict() | ({"incident": incident} if incident else {})
            severity = "INFO" if alert.is_resolved else str(alert.level)
            self._tracing.event(
                "training.alert", attributes, severity=severity, body=alert.summary, at=alert.at.place
            )
            if not waits:
                self._send(alert, incident)
        if keeps:
            self.andon.pull(alert)

    def _hear(self, alert: Alert, *, resolved: bool = False) -> None:
        """Tell of what a person asked for, once an action; `resolved`: it is done with."""
        known = self._asked.pop(alert.episode, None)
        if resolved:
            if known is not None:
                self._tell(replace(known, ended_ns=self._clock.time_ns()), keeps=False)
            return
        self._asked[alert.episode] = alert
        if known is None:
            self.judge.saw(alert)
        if known is None or known.action is not alert.action:
            self._tell(alert, keeps=False)

    def _send(self, alert: Alert, incident: str | None) -> None:
        self.deliveries.send(Notice(alert, self._run, incident))

    # -- the loop's side ------------------------------------------------------------------------

    def bad_loss(
        self, series: Series, value: float, epoch: int | None, batch: int | None, step: int | None
    ) -> None:
        """A training loss that is not finite was just recorded: judged here, in the call that logged it."""
        if self.andon.is_closed:  # nothing is recorded any more
            return
        at = Coordinates.at(self._clock.time_ns(), epoch, batch, step)
        # Of count 0: the heartbeat will find the same sample, and counts it.
        finding = Finding("nonfinite.loss", series, Severity.HIGH, at, value, 0.0, 1.0, count=0)
        alerts = self.judge.decide([finding], self._clock.time_ns())
        for alert in alerts:
            self._tell(alert)
        if alerts:
            return
        rule = self.judge.policy.rule_of(finding.detector)
        for alert in self.judge.active:  # the same episode: a loop that went on is stopped again
            same = rule and alert.name == rule.name and alert.series in (series, None)
            if rule and same and alert.action is Action.STOP:
                summary = summary_of(rule, finding, series)
                self.andon.pull(replace(alert, value=value, at=at, summary=summary))

    # -- what Andon needs -----------------------------------------------------------------------

    def hold(self) -> None:
        self._recorder.hold()

    def here(self) -> Coordinates:
        return Coordinates.at(self._clock.time_ns(), *self._recorder.coordinates())

    def event(self, action: str, alert: Alert, **attributes: Any) -> None:
        known = {key: value for key, value in attributes.items() if value is not None}
        document = {"action": action, "alert": alert.name, "episode": alert.episode, **known}
        self._tracing.event("training.action", document, body=f"{action}: {alert.summary}")
        if action == "resume" and alert.source == CONTROL:
            self._hear(alert, resolved=True)

    def set_state(self, state: str) -> None:
        self._state.name = state
        self._control.say_paused(state == "paused")

    def keep_incident(self, alert: Alert) -> str | None:
        with guard("sync"):
            self._recorder.sync()
        if alert.source == CONTROL:
            self._hear(alert)
        incident = self.incidents.keep(alert)
        self._send(alert, incident)
        return incident

    def take_command(self) -> Request | None:
        return self._control.take()

    def say(self, line: str) -> None:
        if self._record.rank == 0:
            print(f"entrenar: {line}", file=sys.stderr, flush=True)

    def resume_command(self) -> str:
        return self._command("resume")

    def _command(self, name: str) -> str:
        run_id = self._record.run_id
        place = ["--lake", self._lake.url]
        words = [name, *place, "--", run_id] if run_id.startswith("-") else [name, run_id, *place]
        return shlex.join(["entrenar-otel", *words])

    def stop_message(self, alert: Alert) -> str:
        parts = [f"{alert.summary} at {alert.where or 'an unknown step'}."]
        if alert.series is not None and alert.value is not None and not math.isfinite(alert.value):
            # Elsewhere and for some seconds only: the lake may hang.
            last: list[str] = []
            Worker("entrenar-stop", partial(self._last_finite, alert.series, last)).stop(_LOOK_BACK_SECONDS)
            if last:
                parts.append(f"The last finite values were {', '.join(last)}.")
            parts.append("The sample is recorded.")
        look = self._command("show")
        advice = _ADVICE.get(alert.source, "see what changed")
        parts.append(f"Look at it with `{look}`; then {advice}.")
        if self.world_size > 1:
            parts.append(f"This is rank {self._record.rank} of {self.world_size}.")
        return " ".join(parts)

    def _last_finite(self, series: Series, found: list[str]) -> None:
        table = self._lake.query(
            "SELECT value FROM metrics WHERE metric = ? AND isfinite(value) AND rank = ? AND tags = ? "
            "ORDER BY attempt DESC, seq DESC LIMIT 3",
            [series.metric, self._record.rank, dict(series.tags)],
            run_id=self._record.run_id,
        )
        found += [f"{number:.6g}" for number in reversed(table.column(0).to_pylist())]


def _kept_again(budget: str, at: Coordinates) -> Finding:
    """A budget that was exceeded is not any more."""
    series = Series.of("budget", {"budget": budget})
    return Finding(
        f"budget.{budget}", series, Severity.LOW, at, math.nan, math.nan, 0.0, resolved=True, count=0
    )


def _finding_of(violation: Violation, at: Coordinates) -> Finding:
    return Finding(
        f"budget.{violation.budget}",
        Series.of("budget", {"budget": violation.budget}),
        Severity.HIGH,
        at,
        math.nan if violation.value is None else violation.value,
        math.nan if violation.limit is None else violation.limit,
        1.0 if violation.usage is None else violation.usage,
        text=violation.message,
    )
