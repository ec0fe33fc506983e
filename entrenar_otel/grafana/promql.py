"""PromQL: what queries of dashboards and rules are put together from.

Names come from the table of metrics, so that a metric that is renamed there is renamed here.
"""

from __future__ import annotations

from collections.abc import Iterable

from entrenar_otel.prometheus.naming import prometheus_name
from entrenar_otel.semconv import INSTRUMENTS, MACHINE, STATE, Instrument

_TABLE = {name: Instrument(name, *facts) for name, facts in STATE.items()} | {
    instrument.name: instrument for instrument in (*INSTRUMENTS.values(), *MACHINE.values())
}
#: What tells a run's process from another, whichever attempt it is.
PROCESS = ("run_id", "rank")
#: Its labels, in what is shown.
SHOWN = ("run_id", "model_id", "rank")
#: The steps of the training, not those of a validation.
TRAINED = 'split=~"|train"'
_STARTED = "training.run.start.timestamp"


def name_of(instrument: str) -> str:
    """The name in Prometheus of an instrument of the table. Raises KeyError where it has none of that name.

    >>> name_of("training.step.duration"), name_of("training.alerts"), name_of("hw.temperature")
    ('training_step_duration_seconds', 'training_alerts_total', 'hw_temperature_celsius')
    """
    return prometheus_name(_TABLE[instrument])


def series(instrument: str, *matchers: str, suffix: str = "") -> str:
    """The selector of an instrument's series; `suffix` is `_bucket`, `_sum` or `_count` of a histogram.

    >>> series("training.loss", 'split=""', 'run_id=~"$run"')
    'training_loss{split="",run_id=~"$run"}'
    """
    return selector(name_of(instrument) + suffix, *matchers)


def selector(name: str, *matchers: str) -> str:
    """A selector by the name in Prometheus.

    >>> selector("up"), selector("up", 'job="sink"')
    ('up', 'up{job="sink"}')
    """
    inner = ",".join(filter(None, matchers))
    return f"{name}{{{inner}}}" if inner else name


def collector_counter(name: str) -> str:
    """A counter that a Collector has of itself, over all its signals and exporters.

    Its name ends in `_total` only where the Collector's own page is set to have such endings; by default,
    and with the configurations here, it is not.

    >>> print(collector_counter("receiver_refused_spans"))
    {__name__=~"otelcol_receiver_refused_spans(_total)?"}
    """
    return selector("", f"__name__=~{quoted(f'otelcol_{name}(_total)?')}")


def latest(selected: str, *matchers: str, by: Iterable[str] = SHOWN, over: str = "", at: str = "") -> str:
    """The values of the latest attempt of each process.

    A restart makes a second instance, and a Collector shows the first one's last values for an hour more.
    `matchers` narrow the runs that are looked at; `over` is a range: then the last value within it counts.
    `at` is `end()` where only the attempt at the end of what is shown is wanted.

    >>> latest("training_loss", by=("run_id", "rank")).split(" and ")[0]
    'max by (run_id, rank) (training_loss'
    """
    started = series(_STARTED, *matchers)
    if over:
        selected, started = (f"last_over_time({one}[{over}])" for one in (selected, started))
    started += f" @ {at}" if at else ""
    labels = ", ".join(PROCESS)
    return (
        f"max by ({', '.join(by)}) ({selected} and on ({labels}, job, instance) "
        f"topk by ({labels}) (1, {started}))"
    )


def highest(expression: str, *more: str, by: Iterable[str] = SHOWN) -> str:
    """The highest of all attempts, of what does not go on once an attempt has ended: rates and increases.

    >>> highest("rate(training_samples_total[5m])", by=("run_id", "rank"))
    'max by (run_id, rank) (rate(training_samples_total[5m]))'
    """
    return f"max by ({', '.join((*by, *more))}) ({expression})"


def less_data_wait(*matchers: str, over: str) -> str:
    """The mean step less the time that it waited for its data, of each series; all of it without such.

    >>> less_data_wait(over="5m").split(" - ")[0]
    '(rate(training_step_duration_seconds_sum[5m])'
    """
    step, count = (
        f"rate({series('training.step.duration', *matchers, suffix=suffix)}[{over}])"
        for suffix in ("_sum", "_count")
    )
    wait = f"rate({series('training.data_wait.duration', *matchers, suffix='_sum')}[{over}])"
    return f"({step} - ({wait} or 0 * {step})) / ({count} > 0)"


def quoted(text: str) -> str:
    r"""A text as a string of PromQL.

    >>> print(quoted('a "b"\n'))
    "a \"b\"\n"
    """
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def any_of(texts: Iterable[str]) -> str:
    r"""A regular expression, as a string of PromQL, that matches these texts.

    >>> print(any_of(["spike", "val.loss"]))
    "spike|val\\.loss"
    """
    literal = ("".join(f"\\{char}" if char in r"\.+*?()|[]{}^$" else char for char in text) for text in texts)
    return quoted("|".join(literal))
