"""Stop message: what AndonStop says to the person who finds the training stopped."""

from __future__ import annotations

import math
import shlex
from functools import partial
from typing import TYPE_CHECKING

from entrenar_processors import Series
from entrenar_processors.alert import Alert

from entrenar_otel.delivery.worker import Worker

if TYPE_CHECKING:
    from entrenar_otel.lake import Lake
    from entrenar_otel.lake.records.runs import RunRecord

#: How long a stop looks for the last finite values.
LOOK_BACK_SECONDS = 3.0
#: What to do next, by the alert's source.
_ADVICE = {
    "nonfinite": "lower the learning rate, clip gradients, or look for bad data in that batch",
    "divergence": "lower the learning rate, clip gradients, or look for bad data in the last batches",
    "spike": "look for bad data in that batch, or lower the learning rate",
    "accuracy_drop": "compare the model with its last good checkpoint",
    "stuck": "see whether gradients still arrive: the learning rate, detached tensors, NaN shown as 0.0",
    "silent": "look at the member that is named: its input, its gradients, its warnings",
    "budget": "profile that part, or raise the limit in renacer.toml",
    "threshold": "find out why it crossed the limit, or change the limit in renacer.toml",
    "control": "start it again when you are ready",
}


class StopMessage:
    """What happened and where, the last finite values, the command that shows more, what to do next."""

    def __init__(self, lake: Lake, record: RunRecord) -> None:
        self._lake, self._record = lake, record

    def text(self, alert: Alert, *, looks_back: bool = True) -> str:
        """The message of a stop for this alert; with `looks_back` it asks the lake for some seconds."""
        record = self._record
        parts = [f"{alert.summary} at {alert.where or 'an unknown step'}."]
        if alert.series is not None and alert.value is not None and not math.isfinite(alert.value):
            values: list[str] = []
            if looks_back:  # on a thread of its own: the lake may hang
                worker = Worker("entrenar-stop", partial(self._last_finite, alert.series, values))
                worker.stop(LOOK_BACK_SECONDS)
            if values:
                parts.append(f"The last finite values were {', '.join(values)}.")
            parts.append("The sample is recorded.")
        show = command_line("show", record.run_id, self._lake.url)
        parts.append(f"Look at it with `{show}`; then {_ADVICE.get(alert.source, 'see what changed')}.")
        if record.world_size > 1:
            parts.append(f"This is rank {record.rank} of {record.world_size}.")
        return " ".join(parts)

    def _last_finite(self, series: Series, values: list[str]) -> None:
        table = self._lake.query(
            "SELECT value FROM metrics WHERE metric = ? AND isfinite(value) AND rank = ? AND tags = ? "
            "ORDER BY attempt DESC, seq DESC LIMIT 3",
            [series.metric, self._record.rank, dict(series.tags)],
            run_id=self._record.run_id,
        )
        values += [f"{number:.6g}" for number in reversed(table.column(0).to_pylist())]


def command_line(command: str, run_id: str, lake: str) -> str:
    """The command about a run as a person types it, in any folder and shell.

    >>> command_line("resume", "digits-7", "/data/my lake")
    "entrenar-otel resume digits-7 --lake '/data/my lake'"
    >>> command_line("show", "-x", "/data/lake")
    'entrenar-otel show --lake /data/lake -- -x'
    """
    place = ["--lake", lake]
    words = [command, *place, "--", run_id] if run_id.startswith("-") else [command, run_id, *place]
    return shlex.join(["entrenar-otel", *words])
