"""Sides: what is compared, a run or all runs of a version, found by the words of a person."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from entrenar_processors.counts import counted

from entrenar_otel.errors import RunError
from entrenar_otel.lake.overview import GOING, runs_of
from entrenar_otel.lake.records.runs import CRASHED, UNKNOWN

if TYPE_CHECKING:
    from entrenar_otel.lake import Lake

#: What stands for the run that started last.
LATEST = "latest"
#: Runs in these states say less than those that got to their end.
_BROKEN = (CRASHED, UNKNOWN)
_CLOSE = 0.5


@dataclass(frozen=True, slots=True)
class Side:
    """One side of a comparison: its name, its runs (as `lake.overview.runs_of` has them), what to know."""

    name: str
    runs: tuple[dict[str, Any], ...]
    notes: tuple[str, ...] = ()

    @property
    def run_ids(self) -> tuple[str, ...]:
        return tuple(run["run_id"] for run in self.runs)


def version_of(run: dict[str, Any]) -> str | None:
    """A run's `MODEL@VERSION`; one without a version has its run id for it, one without a model none."""
    return f"{run['model_id']}@{run['version'] or run['run_id']}" if run["model_id"] else None


def find_side(lake: Lake, name: str | None = None, runs: Sequence[dict[str, Any]] | None = None) -> Side:
    """The side called `name`: a run id, its start or end, `MODEL@VERSION`, or `latest`. Raises RunError.

    Of a version all runs are samples, but for those that crashed where others got to their end. `runs` are
    those of the lake, where they are known already.
    """
    runs = runs_of(lake) if runs is None else runs
    if not runs:
        lake.find_run()  # says what to do
    if name in (None, "", LATEST):
        return _of_run(runs[0])
    assert name is not None
    exact = [run for run in runs if run["run_id"] == name]
    if exact:
        return _of_run(exact[0])
    of_version = [run for run in runs if version_of(run) == name]
    if of_version:
        return of_runs(name, of_version)
    where, close = "a prefix", [run for run in runs if run["run_id"].startswith(name)]
    if not close:
        where, close = "the end", [run for run in runs if run["run_id"].endswith(f"-{name}")]
    if len(close) == 1:
        return _of_run(close[0])
    if close:
        some = ("…, " if len(close) > 5 else "") + ", ".join(run["run_id"] for run in reversed(close[:5]))
        raise RunError(f"{name!r} is {where} of {counted(len(close), 'run')}: {some}")
    raise RunError(f"no run or version {name!r} in {lake.url}; {_close_to(name, runs)}")


def of_runs(name: str, runs: Sequence[dict[str, Any]]) -> Side:
    """Several runs as one side: those that crashed are left out where others did not."""
    good = [run for run in runs if run["state"] not in _BROKEN]
    if not good:
        good = list(runs)
    notes = []
    left_out = [run["run_id"] for run in runs if run not in good]
    if left_out:
        some = ", ".join(left_out[:3]) + (", …" if len(left_out) > 3 else "")
        notes.append(f"{name}: {counted(len(left_out), 'run')} that crashed left out ({some})")
    return Side(name, tuple(reversed(good)), (*notes, *_going(good)))


def _of_run(run: dict[str, Any]) -> Side:
    notes = [f"{run['run_id']} {run['state']}: its last values are those before that"] * (
        run["state"] in _BROKEN
    )
    return Side(run["run_id"], (run,), (*notes, *_going([run])))


def _going(runs: Sequence[dict[str, Any]]) -> list[str]:
    going = [run["run_id"] for run in runs if run["state"] in GOING]
    return [f"{', '.join(going)} still going on: these are its values so far"] if going else []


def _close_to(name: str, runs: Sequence[dict[str, Any]]) -> str:
    """What was perhaps meant, else what there is."""
    versions = list(dict.fromkeys(version for run in runs if (version := version_of(run))))
    ids = [run["run_id"] for run in runs]
    model = name.rpartition("@")[0] or name
    meant = [version for version in versions if version.rpartition("@")[0] == model][:5]
    meant = meant or difflib.get_close_matches(name, [*versions, *ids], n=5, cutoff=_CLOSE)
    if meant:
        return f"close to it: {', '.join(meant)}"
    return f"the latest are {', '.join([*versions[:3], *ids[:3]])}"
