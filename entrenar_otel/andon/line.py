"""Line: the production line of one run, from the samples of a tick to whoever must hear of them.

samples → Judge → alerts → event · metric · handlers · incident · Andon, which acts in the loop.
"""

from __future__ import annotations

import logging
import math
import shlex
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from entrenar_processors import Coordinates, Finding, Samples, Series, Severity
from entrenar_processors.alert import Action, Alert, Level
from entrenar_processors.config import Config
from entrenar_processors.drift_test import DriftDetector
from entrenar_processors.jidoka import processors_of, rules_of
from entrenar_processors.policy import Policy, summary_of

from entrenar_otel.andon.andon import Andon
from entrenar_otel.andon.control import ControlFile, Request
from entrenar_otel.andon.incidents import Incidents
from entrenar_otel.andon.judge import Judge
from entrenar_otel.andon.settings import AndonConfig
from entrenar_otel.andon.warned import finding_of, is_numerical
from entrenar_otel.clock import Clock
from entrenar_otel.errors import guard

if TYPE_CHECKING:
    from entrenar_otel.lake import Lake
    from entrenar_otel.lake.runs import RunRecord
    from entrenar_otel.metering.state import RunState
    from entrenar_otel.recording.recorder import Recorder
    from entrenar_otel.tracing.run_tracing import RunTracing

logger = logging.getLogger("entrenar_otel")

#: Findings of one tick that become events of their own; the rest is counted.
_MAX_EVENTS = 20
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


class Line:
    """Judges a run and tells of it. `consume` and `on_tick` are the heartbeat's."""

    def __init__(
        self,
        recorder: Recorder,
        lake: Lake,
        record: RunRecord,
        tracing: RunTracing,
        state: RunState,
        config: Config,
        alerting: AndonConfig,
        *,
        drift_detector: DriftDetector | None = None,
        clock: Clock,
        quiet: bool = False,
    ) -> None:
        settings = config.monitor.andon
        self.world_size, self.quiet = record.world_size, quiet
        self._recorder, self._lake, self._record = recorder, lake, record
        self._tracing, self._state, self._clock = tracing, state, clock
        self.judge = Judge(
            processors_of(config.monitor, drift_detector),
            Policy(rules_of(config), quiet_seconds=settings.quiet_seconds),
        )
        self.andon = Andon(
            self,
            pause_timeout_seconds=alerting.pause_timeout_seconds or settings.pause_timeout_seconds,
            after_pause=alerting.after_pause or settings.after_pause,
            agree=alerting.agree,
        )
        self._control = ControlFile(str(lake.live), record.process)
        self._incidents = Incidents(
            lake,
            record,
            config.model_dump(mode="json", by_alias=True),
            limit=settings.max_incidents,
            before_seconds=settings.incident_before_seconds,
            after_seconds=settings.incident_after_seconds,
            now_ns=clock.time_ns,
        )
        self._warned: deque[Finding] = deque(maxlen=1000)
        state.more = self.judge.metrics

    # -- the heartbeat's side -------------------------------------------------------------------

    def consume(self, samples: Samples) -> None:
        """Judge the samples of a tick."""
        findings = self.judge.judge(samples)
        if findings:
            self.found(findings)

    def found(self, findings: Sequence[Finding]) -> None:
        """Findings of whoever makes them: processors, budgets, warnings."""
        for one in findings[:_MAX_EVENTS]:
            self._tracing.event("training.finding", one.as_dict())
        if len(findings) > _MAX_EVENTS:
            self._tracing.event("training.finding", {"more": len(findings) - _MAX_EVENTS})
        for alert in self.judge.decide(findings, self._clock.time_ns()):
            self._tell(alert)

    def warned(self, warning: Mapping[str, Any]) -> None:
        """A warning was raised in the run, on this thread; judged at the next tick."""
        if is_numerical(warning):
            epoch, batch, step = (-1 if at is None else at for at in self._recorder.coordinates())
            at = Coordinates(self._clock.time_ns(), epoch, batch, step)
            self._warned.append(finding_of(warning, self._tracing.current_attributes(), at))

    def on_tick(self) -> None:
        """What is due without new samples: warnings, episodes that end, commands, windows of incidents."""
        self._judge_warned()
        for alert in self.judge.decide([], self._clock.time_ns()):
            self._tell(alert)
        if not self.andon.is_paused:  # else the paused loop looks itself, and sooner
            with guard("control"):
                if (request := self.take_command()) is not None:
                    self.andon.command(request)
        self._incidents.on_tick()

    def _judge_warned(self) -> None:
        found = [self._warned.popleft() for _ in range(len(self._warned))]
        if found:
            self.found(found)

    def close(self) -> None:
        """The run ends: so do all episodes."""
        self._judge_warned()
        for alert in self.judge.finish(self._clock.time_ns()):
            self._tell(alert)
        self.andon.close()
        self._control.remove()

    def wait(self, timeout_seconds: float) -> None:
        """Let incidents and handlers finish; bounded."""
        if not self._incidents.close(timeout_seconds):
            logger.warning("incidents of run %s are not all written", self._record.run_id)

    def _tell(self, alert: Alert) -> None:
        with guard("alert"):
            incident = None
            matters = alert.action is not Action.LOG and not alert.is_over
            if matters and alert.action is not Action.STOP:  # that of a stop is written when it happens
                incident = self._incidents.begin(alert)
            attributes = alert.as_dict() | ({"incident": incident} if incident else {})
            severity = "INFO" if alert.is_over else str(alert.level)
            self._tracing.event("training.alert", attributes, severity=severity, body=alert.summary)
        self.andon.pull(alert)

    # -- the loop's side ------------------------------------------------------------------------

    def bad_loss(
        self, series: Series, value: float, epoch: int | None, batch: int | None, step: int | None
    ) -> None:
        """A training loss that is not finite was just recorded: judged here, in the call that logged it."""
        at = Coordinates(self._clock.time_ns(), *(-1 if one is None else one for one in (epoch, batch, step)))
        # Of count 0: the heartbeat will find the same sample, and counts it.
        finding = Finding("nonfinite.loss", series, Severity.HIGH, at, value, 0.0, 1.0, count=0)
        alerts = self.judge.decide([finding], self._clock.time_ns())
        for alert in alerts:
            self._tell(alert)
        if alerts:
            return
        rule = self.judge.policy.rule_of(finding.detector)
        for alert in self.judge.active:  # the same episode: a loop that went on is stopped again
            if rule and alert.name == rule.name and alert.series == series and alert.action is Action.STOP:
                summary = summary_of(rule, finding, series)
                self.andon.pull(replace(alert, value=value, at=at, summary=summary))

    # -- what Andon needs -----------------------------------------------------------------------

    def hold(self) -> None:
        self._recorder.hold()

    def here(self) -> Coordinates:
        where = self._recorder.coordinates()
        return Coordinates(self._clock.time_ns(), *(-1 if one is None else one for one in where))

    def event(self, action: str, alert: Alert, **attributes: Any) -> None:
        known = {key: value for key, value in attributes.items() if value is not None}
        document = {"action": action, "alert": alert.name, "episode": alert.episode, **known}
        self._tracing.event("training.action", document, body=f"{action}: {alert.summary}")

    def set_state(self, state: str) -> None:
        self._state.name = state

    def keep_incident(self, alert: Alert) -> str | None:
        self._recorder.sync()
        if alert.source == "control":
            self.judge.saw(alert)
            attributes = alert.as_dict()
            self._tracing.event("training.alert", attributes, severity=str(Level.ERROR), body=alert.summary)
        return self._incidents.keep(alert)

    def take_command(self) -> Request | None:
        return self._control.take()

    def say(self, line: str) -> None:
        if self._record.rank == 0:
            print(f"entrenar: {line}", file=sys.stderr, flush=True)

    def resume_command(self) -> str:
        return shlex.join(["entrenar-otel", "resume", self._record.run_id, "--lake", self._lake.url])

    def stop_message(self, alert: Alert) -> str:
        parts = [f"{alert.summary} at {alert.where or 'an unknown step'}."]
        if alert.series is not None and alert.value is not None and not math.isfinite(alert.value):
            before = ""
            with guard("stop"):
                before = self._last_finite(alert.series)
            parts.append(f"{before}The sample is recorded.")
        look = shlex.join(["entrenar-otel", "show", self._record.run_id, "--lake", self._lake.url])
        advice = _ADVICE.get(alert.source, "see what changed")
        parts.append(f"Look at it with `{look}`; then {advice}.")
        if self.world_size > 1:
            parts.append(f"This is rank {self._record.rank} of {self.world_size}.")
        return " ".join(parts)

    def _last_finite(self, series: Series) -> str:
        table = self._lake.query(
            "SELECT value FROM metrics WHERE metric = ? AND isfinite(value) AND rank = ? AND tags = ? "
            "ORDER BY attempt DESC, seq DESC LIMIT 3",
            [series.metric, self._record.rank, dict(series.tags)],
            run_id=self._record.run_id,
        )
        last = [f"{number:.6g}" for number in reversed(table.column(0).to_pylist())]
        return f"The last finite values were {', '.join(last)}. " if last else ""
