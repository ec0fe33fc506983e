"""Alert: what was decided about one episode of findings, and what to do about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from entrenar_processors.finding import Coordinates, Severity
from entrenar_processors.plain import plain
from entrenar_processors.samples import Series


class Action(StrEnum):
    """What is done, from the least to the most severe for the training.

    >>> Action.STOP.rank > Action.PAUSE.rank > Action.LOG.rank
    True
    """

    LOG = "log"
    NOTIFY = "notify"
    REDUCE_LR = "reduce_lr"
    PAUSE = "pause"
    STOP = "stop"

    @property
    def rank(self) -> int:
        return _ACTIONS.index(self)

    @property
    def is_for_loop(self) -> bool:
        """Whether it happens on the loop's thread, inside the next `log`."""
        return self.rank >= Action.REDUCE_LR.rank


class Level(StrEnum):
    """How urgent an alert is: INFO and WARNING can wait, ERROR and CRITICAL cannot.

    >>> Level.CRITICAL.rank > Level.ERROR.rank
    True
    """

    INFO = "INFO"
    WARNING = "WARNING"
    ERROR = "ERROR"
    CRITICAL = "CRITICAL"

    @property
    def rank(self) -> int:
        return _LEVELS.index(self)

    @classmethod
    def of(cls, action: Action) -> Level:
        """The level of an action where renacer.toml names none.

        >>> Level.of(Action.NOTIFY)
        <Level.WARNING: 'WARNING'>
        """
        if action is Action.LOG:
            return cls.INFO
        return cls.ERROR if action.rank >= Action.PAUSE.rank else cls.WARNING


_ACTIONS = tuple(Action)
_LEVELS = tuple(Level)
NOWHERE = Coordinates()


@dataclass(frozen=True, slots=True)
class Rule:
    """What is done about the findings of `detector`, by severity, and under which `name` it is known.

    `text` begins the summary of its alerts. With `lasting`, findings say when their episode is over
    (`Finding.resolved`); other episodes end when the series was quiet for a while, and those that lasted too,
    unless the rule `ends_at_once`. `factor` and
    `min_factor` belong to reduce_lr. `after_steps` is a warm-up during which findings are only logged. Rules
    of one `event` see the same from several sides. Those that are `but_with_reward` are for trainings in
    which the loss is to fall: where a reward is to rise, see `Policy`.
    """

    detector: str
    name: str
    source: str
    text: str
    actions: Mapping[Severity, Action]
    level: Level | None = None
    lasting: bool = False
    ends_at_once: bool = False
    after_steps: int = 0
    factor: float = 0.5
    min_factor: float = 0.0625
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    event: str = ""
    but_with_reward: bool = False


@dataclass(frozen=True, slots=True)
class Alert:
    """One episode of one rule on one series: it fires once, and once more when it is resolved.

    `episode` identifies it within a process. `value`, `expected` and `score` are those of the finding
    that began it; `peak` is the value farthest from the expected one on the same side, `count` the number of
    abnormal samples so far. `ended_ns` is None while it lasts. Times are nanoseconds since 1970 UTC.
    """

    name: str
    source: str
    level: Level
    action: Action
    summary: str
    episode: str
    started_ns: int
    at: Coordinates = NOWHERE
    series: Series | None = None
    value: float | None = None
    expected: float | None = None
    score: float | None = None
    peak: float | None = None
    count: int = 1
    ended_ns: int | None = None
    factor: float | None = None
    min_factor: float | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_resolved(self) -> bool:
        return self.ended_ns is not None

    @property
    def state(self) -> str:
        """`firing` or `resolved`, as Prometheus and Alertmanager say."""
        return "resolved" if self.is_resolved else "firing"

    @property
    def where(self) -> str:
        """`epoch 3, batch 17, step 40`, as far as it was reported.

        >>> Alert("a", "s", Level.INFO, Action.LOG, "", "1", 0, Coordinates(epoch=3, step=40)).where
        'epoch 3, step 40'
        """
        known = self.at.as_dict()
        return ", ".join(f"{name} {known[name]}" for name in ("epoch", "batch", "step") if name in known)

    def as_dict(self) -> dict[str, Any]:
        """A flat dictionary of text and numbers for JSON and event attributes; what is unknown is omitted."""
        fields: dict[str, Any] = {
            "name": self.name,
            "source": self.source,
            "level": str(self.level),
            "action": str(self.action),
            "state": self.state,
            "summary": self.summary,
            "episode": self.episode,
            "started_ns": self.started_ns,
            "ended_ns": self.ended_ns,
            "metric": self.series.metric if self.series else None,
            **({f"tag.{key}": value for key, value in self.series.tags} if self.series else {}),
            **{key: value for key, value in self.at.as_dict().items() if key != "time_ns"},
            "value": plain(self.value),
            "expected": plain(self.expected),
            "score": plain(self.score),
            "peak": plain(self.peak),
            "count": self.count,
            "factor": self.factor,
            "min_factor": self.min_factor,
            **{f"label.{key}": value for key, value in self.labels.items()},
            **{f"annotation.{key}": value for key, value in self.annotations.items()},
        }
        return {key: value for key, value in fields.items() if value is not None}
