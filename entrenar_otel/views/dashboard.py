"""Dashboard: chosen panels of one run, as text and as a picture, for a script or a notebook."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from entrenar_otel.errors import ConfigError
from entrenar_otel.lake import Lake
from entrenar_otel.lake.lake import DEFAULT_LAKE
from entrenar_otel.records import MetricRecord
from entrenar_otel.views.frame import Choice, frame
from entrenar_otel.views.look import Look
from entrenar_otel.views.model import Axis, Panel, RunView, placed
from entrenar_otel.views.watched import WatchedRun

_WIDTH = 100


@runtime_checkable
class Visualizer(Protocol):
    """Whatever shows a run: see `Monitor.builder().visualizer(…)`; a `Dashboard` is one."""

    def update(self, view: RunView | None = None) -> None:
        """Take the run as it is now."""

    def render(self) -> str:
        """What it shows, as text."""

    def save_png(self, path: str | os.PathLike[str]) -> None:
        """The same as a picture."""


class Dashboard:
    """Panels of one run: the latest of the lake, or `run_id`; without panels, of all that was measured.

    Of an id its start or end does, where that names one run. `lake` is by default `ENTRENAR_LAKE`, else
    `./entrenar-lake`; `axis` is step, epoch or time. What it shows is read when it is first asked for, and by
    `update()`. Raises ConfigError, RunError.

    >>> from entrenar_otel import Monitor
    >>> with Monitor("toy", lake=tmp_path / "lake", quiet=True) as monitor:
    ...     for step in range(9):
    ...         monitor.log(loss=1 / (1 + step), step=step)
    >>> dashboard = Dashboard(panels=[Panel("loss", title="Training loss")], lake=monitor.lake)
    >>> "Training loss" in dashboard.render()
    True
    """

    def __init__(
        self,
        panels: Sequence[Panel] | None = None,
        *,
        run_id: str | None = None,
        lake: Lake | str | os.PathLike[str] | None = None,
        axis: Axis | str = Axis.STEP,
    ) -> None:
        self.panels = None if panels is None else _checked(panels)
        self.axis = _axis(axis)
        self._run_id = run_id
        self._lake = lake
        self._is_found = False
        self._watched: WatchedRun | None = None
        self._view: RunView | None = None

    def __repr__(self) -> str:
        names = "everything" if self.panels is None else ", ".join(str(p.metric) for p in self.panels)
        return f"<Dashboard of {names}>"

    def watch(self, lake: Lake, run_id: str) -> None:
        """Show this run from now on, also before the lake has heard of it."""
        self._lake, self._run_id, self._watched, self._view = lake, run_id, None, None
        self._is_found = True

    def update(self, view: RunView | None = None) -> None:
        """Take this view, or read the run as it is now. Raises QueryError, LakeError, RunError."""
        if view is None:
            if self._watched is None:
                lake = self._lake if isinstance(self._lake, Lake) else Lake(_place(self._lake))
                run_id = self._run_id if self._is_found else None
                self._watched = WatchedRun(lake, run_id or lake.find_run(self._run_id))
            view = self._watched.view()
        self._view = view

    @property
    def view(self) -> RunView:
        """What it shows."""
        if self._view is None:
            self.update()
        if self._view is None:
            raise AssertionError
        return self._view

    def render(self, width: int = _WIDTH, *, ascii_only: bool = False) -> str:
        """The panels as text, at most `width` signs wide.

        Raises ConfigError on a series that the run does not have.
        """
        panels = None if self.panels is None else self._by_place()
        lines = frame(
            self._known_view(),
            width,
            choice=Choice(self.axis),
            look=Look(ascii_only=ascii_only),
            panels=panels,
        )
        return "\n".join(line.plain.rstrip() for line in lines)

    def save_png(self, path: str | os.PathLike[str]) -> None:
        """The panels as a picture (also .svg, .pdf).

        Raises MissingExtra without matplotlib, ConfigError, OSError.
        """
        from entrenar_otel.views.png import save

        save(self._known_view(), path, panels=self.panels, axis=self.axis)

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        from entrenar_otel.views.svg import curves_svg

        return curves_svg(self._known_view(), self.panels, self.axis)

    def _known_view(self) -> RunView:
        """The view, of which the panels ask for nothing that will never be there."""
        view = self.view
        for panel in () if view.is_going else self.panels or ():
            if unknown := panel.unknown_series(view):
                known = ", ".join(repr(line.label) for line in panel.all_series().lines(view)) or "none"
                raise ConfigError(
                    f"panel {panel.heading!r}: expected series of {panel.metric!r} that run "
                    f"{view.run_id} has ({known}), got {', '.join(map(repr, unknown))}"
                )
        return view

    def _by_place(self) -> list[Panel]:
        return [panel for _, _, panel in sorted(placed(self.panels or ()), key=lambda place: place[:2])]


def _checked(panels: Sequence[Panel]) -> list[Panel]:
    """The panels, each of which has a place of its own."""
    chosen = list(panels)
    for panel in chosen:
        if not isinstance(panel, Panel):
            raise ConfigError(f"expected panels=[Panel(…), …], got {panel!r} among them")
    placed(chosen)
    return chosen


def _axis(axis: Axis | str) -> Axis:
    try:
        return Axis(axis)
    except ValueError:
        raise ConfigError(f"expected axis {', '.join(map(repr, map(str, Axis)))}, got {axis!r}") from None


def _place(lake: Any) -> str:
    return os.fspath(lake) if lake is not None else os.environ.get("ENTRENAR_LAKE") or DEFAULT_LAKE


class VisualizerEmitter:
    """Keeps a visualizer up to date. As an emitter it has a thread of its own, and may hang."""

    def __init__(self, visualizer: Visualizer, every_seconds: float = 1.0) -> None:
        self._visualizer, self._every_seconds = visualizer, every_seconds
        self._watched: WatchedRun | None = None
        self._next = 0.0

    def watch(self, lake: Lake, run_id: str) -> None:
        """The run that it is told of."""
        if isinstance(self._visualizer, Dashboard):
            self._visualizer.watch(lake, run_id)
        self._watched = WatchedRun(lake, run_id)

    def emit(self, record: MetricRecord) -> None:
        """One sample came."""
        self.emit_batch([record])

    def emit_batch(self, _records: Sequence[MetricRecord]) -> None:
        """Samples came: show them, at most once a second."""
        if time.monotonic() >= self._next:
            self.flush()

    def flush(self) -> None:
        """Show what is there; also at the end of the run."""
        self._next = time.monotonic() + self._every_seconds
        if self._watched is not None:
            self._visualizer.update(self._watched.view())
