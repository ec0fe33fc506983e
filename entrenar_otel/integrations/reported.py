"""Reported: what a framework says of its training, as metrics and hyper-parameters of ours."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any

from entrenar_processors.metric_names import facade_name

from entrenar_otel.console import logger
from entrenar_otel.integrations.metric_group import MetricGroup

#: Totals that frameworks count up, and the counters that take what was added.
TOTALS = {"num_input_tokens_seen": "tokens", "ntokens_seen": "tokens"}
#: Beyond so many sets of names, new ones are looked at anew each time: some report another set at every step.
_MAX_PLANS = 256


class Reported:
    """Gives metrics the names that people log them by: a framework's `eval_loss` is the validation's `loss`.

    Text and None are left out; running totals become what was added since.

    >>> reported = Reported()
    >>> values = {"eval_loss": 0.5, "epoch": "one", "num_input_tokens_seen": 64}
    >>> [(group.tags, group.metrics(values, reported.added)) for group in reported.groups(values)]
    [({'split': 'validation'}, {'loss': 0.5}), (None, {'tokens': 64.0})]
    >>> values = {"num_input_tokens_seen": 80}
    >>> [group.metrics(values, reported.added) for group in reported.groups(values)]
    [{'tokens': 16.0}]
    """

    def __init__(self) -> None:
        self.totals: dict[str, float] = {}
        #: What is known of sets of names, by `(split, *names)`.
        self.plans: dict[tuple[str | None, ...], list[MetricGroup]] = {}

    def groups(self, values: Mapping[str, Any], split: str | None = None) -> list[MetricGroup]:
        """The groups of metrics that have the same tags; `split` is that of names which say none."""
        key = (split, *values)
        if (plan := self.plans.get(key)) is None:
            plan = _plan(tuple(values), split)
            if len(self.plans) < _MAX_PLANS:
                self.plans[key] = plan
        return plan

    def added(self, name: str, total: Any) -> float:
        """What was added to a running total since the last time."""
        added = float(total) - self.totals.get(name, 0.0)
        self.totals[name] = float(total)
        if added < 0:
            logger.warning("%s fell by %g: it counts from its new value on", name, -added)
        return max(added, 0.0)


def _plan(names: tuple[str, ...], split: str | None) -> list[MetricGroup]:
    """Of two names that would be one the second stays as it is."""
    groups: dict[tuple[tuple[str, str], ...], dict[str, str]] = {}
    for raw in names:
        name, tags = (TOTALS[raw], ()) if raw in TOTALS else facade_name(raw)
        if split is not None and all(key != "split" for key, _ in tags):
            tags = (*tags, ("split", split))
        group = groups.setdefault(tags, {})
        group[raw if name in group else name] = raw
    return [MetricGroup(group, dict(tags) or None, TOTALS) for tags, group in groups.items()]


_NOTHING = object()


def plain_config(config: Any) -> Any:
    """Of hyper-parameters what JSON can say: no object, whose text is another one in every process.

    >>> plain_config({"lr": 0.1, "device": object(), "layers": [1, {"a": {2}}], "on": True})
    {'lr': 0.1, 'layers': [1, {}], 'on': True}
    """
    if isinstance(config, Mapping):
        return {
            str(key): kept for key, value in config.items() if (kept := plain_config(value)) is not _NOTHING
        }
    if isinstance(config, list | tuple):
        return [kept for value in config if (kept := plain_config(value)) is not _NOTHING]
    value = config.value if isinstance(config, Enum) else config
    return value if value is None or isinstance(value, str | int | float) else _NOTHING
