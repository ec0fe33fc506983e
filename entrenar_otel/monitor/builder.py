"""Builder: the specification's way to make a Monitor; keyword arguments of `Monitor` say the same."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from entrenar_otel.records import MetricsEmitter

if TYPE_CHECKING:
    from entrenar_processors import DriftDetector

    from entrenar_otel.andon import AndonConfig
    from entrenar_otel.views.dashboard import Visualizer


Made = TypeVar("Made")


class MonitorBuilder(Generic[Made]):
    """Collects what a Monitor is made of, then makes it with `make`, the class.

    monitor = Monitor.builder().run("digits-7").model("digits-mlp", "1.0.0").storage("lake").build()
    """

    def __init__(self, make: Callable[..., Made]) -> None:
        self._make = make
        self._settings: dict[str, Any] = {}
        self._emitters: list[MetricsEmitter] = []
        self._visualizers: list[Visualizer] = []

    def run(self, run_id: str, **settings: Any) -> Self:
        """The run's id, and any other keyword of `Monitor`."""
        self._settings |= {"run_id": run_id, **settings}
        return self

    def model(self, model_id: str, version: str | None = None, config: Any = None) -> Self:
        """What is trained."""
        self._settings |= {"model_id": model_id, "version": version, "config": config}
        return self

    def parents(self, *parents: str | os.PathLike[str], change: str | None = None) -> Self:
        """The versions that the model is made from, and what was changed since."""
        self._settings |= {"parents": parents, "change": change}
        return self

    def storage(self, lake: str | os.PathLike[str]) -> Self:
        """The lake: a folder or URL."""
        self._settings["lake"] = lake
        return self

    def emitter(self, emitter: MetricsEmitter) -> Self:
        """A further receiver of every sample."""
        self._emitters.append(emitter)
        return self

    def assertions(self, file: str | os.PathLike[str]) -> Self:
        """The renacer.toml with budgets and thresholds; it must exist."""
        self._settings["settings_file"] = file
        self._settings["settings_required"] = True
        return self

    def drift_detector(self, detector: DriftDetector) -> Self:
        """Watch accuracy for drift with this test."""
        self._settings["drift_detector"] = detector
        return self

    def alerting(self, alerting: AndonConfig) -> Self:
        """Who is told of alerts, and how several ranks stop together."""
        self._settings["alerting"] = alerting
        return self

    def visualizer(self, visualizer: Visualizer) -> Self:
        """Whatever shows the run, such as a `Dashboard`: it is updated once a second, and at the end."""
        self._visualizers.append(visualizer)
        return self

    def build(self) -> Made:
        """Make the Monitor. Raises what its constructor raises."""
        if not self._visualizers:
            return self._make(**self._settings, emitters=self._emitters)
        from entrenar_otel.views.dashboard import VisualizerEmitter

        shown = [VisualizerEmitter(visualizer) for visualizer in self._visualizers]
        made: Any = self._make(**self._settings, emitters=[*self._emitters, *shown])
        for emitter in shown:
            emitter.watch(made.lake, made.run_id)
        return made  # type: ignore[no-any-return]
