"""Lightning logged metrics: what `self.log` was given since somebody last asked."""

from __future__ import annotations

from typing import Any, Self


class LoggedMetrics:
    """The metrics of a Trainer that have a new value; tensors, wherever they are.

    A Trainer's metrics keep a value until the next one: of a metric that is logged every tenth batch, the
    other nine show the old one. A value is a tensor of its own, and one that is held keeps its place in
    memory: another place is another value.

    `Trainer.logged_metrics` makes some 60 calls to put together what it shows. Of a batch, a value is read
    where Lightning keeps it, once that was seen to be what it shows; wherever something is not as expected,
    the Trainer is asked. A copy has seen nothing.
    """

    def __init__(self) -> None:
        self._held: dict[str, Any] = {}  # the tensor that was seen last
        self._shown: dict[str, Any] = {}  # the dictionary that Lightning shows when asked, as it last was
        #: How many were kept and how many shown, when looked at.
        self._sizes: tuple[int, int] | None = None
        self._connector: Any = None
        self._kept: Any = ()
        self._states: list[tuple[str, dict[str, Any]]] = []

    def __reduce__(self) -> tuple[type[Self], tuple[()]]:
        return type(self), ()

    def begin_epoch(self) -> None:
        """Look anew at where Lightning keeps its metrics."""
        self._sizes = self._connector = None

    def new(self, trainer: Any) -> dict[str, Any]:
        """Those that were logged since the last call."""
        found, held = {}, self._held
        for name, value in trainer.logged_metrics.items():
            if (last := held.get(name)) is None or last.data_ptr() != value.data_ptr():
                held[name] = found[name] = value
        return found

    def new_of_batch(self, trainer: Any) -> dict[str, Any]:
        """The same, when a training batch is over, and nothing but its metrics can have come since."""
        if self._sizes is None:
            self._look(trainer)
            return self.new(trainer)
        shown = self._connector._logged_metrics
        if shown is not self._shown or (len(self._kept), len(shown)) != self._sizes:
            self._look(trainer)
            return self.new(trainer)
        found, held = {}, self._held
        try:
            for name, state in self._states:
                value = state["_forward_cache"]
                if value is None or value is (last := held.get(name)) or state["has_reset"]:
                    continue
                if last is None or last.data_ptr() != value.data_ptr():
                    held[name] = found[name] = value
        except (AttributeError, KeyError):  # no tensor: Lightning says what is wrong with it
            return self.new(trainer)
        return found

    def _look(self, trainer: Any) -> None:
        """Find where the metrics are kept that a batch may log."""
        self._sizes = None
        try:
            connector, kept = trainer._logger_connector, trainer.fit_loop.epoch_loop._results
            shown = trainer.logged_metrics
            if shown is not connector._logged_metrics or kept is not trainer._results:
                return
            states = _states_of(kept, shown)
        except (AttributeError, KeyError, TypeError):  # a version that keeps them elsewhere
            return
        if states is not None:
            self._connector, self._kept, self._shown, self._states = connector, kept, shown, states
            self._sizes = len(kept), len(shown)


def _states_of(kept: Any, shown: dict[str, Any]) -> list[tuple[str, dict[str, Any]]] | None:
    """By the name that is shown, what a kept metric has; None where that does not show just the same."""
    states: dict[str, dict[str, Any]] = {}
    for metric in kept.values():
        meta = metric.meta
        if not (meta.on_step and meta.logger):
            continue
        name = kept._forked_name(metric, True)[1]
        if name in states or meta.dataloader_idx is not None or kept.dataloader_idx is not None:
            return None  # of two with one name the later is shown
        states[name] = state = vars(metric)
        value = state["_forward_cache"]
        if value is not None and not state["has_reset"] and shown[name].data_ptr() != value.data_ptr():
            return None
    order = [*dict.fromkeys((*shown, *states))]  # as they are shown, and then those that will be
    return [(name, states[name]) for name in order if name in states]
