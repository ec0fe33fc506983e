"""Recorded version: what a run says of the version of a model that it makes, as a span with links.

>>> made = RecordedVersion("digits", "1.2.0", parents=["digits@1.1.0"], change="more_data")
>>> [str(parent.version) for parent in made.parents]
['digits@1.1.0']
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

from entrenar_processors.metric_names import TRAIN, VALIDATION, known_as, split_of

from entrenar_otel import semconv
from entrenar_otel.console import logger
from entrenar_otel.errors import LineageError, describe, guard
from entrenar_otel.lake.records.runs import config_group
from entrenar_otel.lineage.parent import Parent
from entrenar_otel.lineage.sidecar import Sidecar
from entrenar_otel.lineage.version_id import VersionId

if TYPE_CHECKING:
    from pathlib import Path

    from entrenar_processors import Series, Summary

    from entrenar_otel.lake import Lake
    from entrenar_otel.lake.records.runs import RunRecord

#: What is asked of the lake at the start may take so long, and so long is waited for at the end.
_ASK_SECONDS, _WAIT_SECONDS = 30.0, 3.0
#: Of further metrics on a version.
MAX_METRICS = 64
MAX_PARENTS = 100
#: In which order series of different splits speak for the model.
_SPLITS = (VALIDATION, None, TRAIN)
_KNOWN = """
SELECT model_id, version, config_group, run_id, trace_id, span_id FROM lineage
WHERE list_contains(?, model_id || '@' || version) ORDER BY created_at
"""


class Spans(Protocol):
    """The spans of a run, as far as they are needed here."""

    @property
    def run_traceparent(self) -> str | None:
        """That of the run's own span."""

    def point(
        self,
        name: str,
        attributes: Mapping[str, Any],
        links: Iterable[tuple[str, str, Mapping[str, Any]]] = (),
    ) -> None:
        """Record a span without length, and an event of the same name on the run."""


class RecordedVersion:
    """The version that a run makes: from what, with what change, and how good it is in the end.

    Where no `model_id` was given there is none, and nothing is recorded. What cannot be used of what was
    given is warned of and left out: it costs no run.
    """

    def __init__(
        self, model_id: str | None, version: str | None, *, parents: Any = (), change: str | None = None
    ) -> None:
        self.model_id, self.version = model_id, version
        self.parents: list[Parent] = []
        self._accuracy: float | None = None
        self._metrics: dict[str, float] = {}
        self._lock = threading.Lock()
        #: Of what the lake was asked, by how many threads it is being asked, and that none is left.
        self._asked: set[VersionId] = set()
        self._asking = 0
        self._has_asked = threading.Event()
        self._asks: tuple[Lake, RunRecord] | None = None
        one = isinstance(parents, str | os.PathLike) or not isinstance(parents, Iterable)
        with guard("lineage"):  # a stranger's iterable
            for parent in [parents] if one else parents:
                self.add_parent(parent, change)

    # -- what a program says ----------------------------------------------------------------------

    def add_parent(self, parent: Any, change: str | None = None) -> None:
        """See `Monitor.add_parent`."""
        try:
            made = Parent.of(parent, change)
            if self.model_id is not None and made.version == (self.model_id, self.version):
                raise LineageError(f"{made.version} cannot be its own parent")
            if len(self.parents) >= MAX_PARENTS:
                raise LineageError(f"a version has at most {MAX_PARENTS} parents; {made.version} is one more")
        except LineageError as error:
            logger.warning("%s; it is left out of the lineage", error)
            return
        with self._lock:
            self.parents = [known for known in self.parents if known.version != made.version] + [made]
            self._asked.discard(made.version)
        if self.model_id is None:
            logger.warning("parents are recorded of a run with a model_id; give Monitor one")
        elif self._asks is not None:  # the run goes on: the first question knew nothing of this one
            self._begin_to_ask(*self._asks)

    def describe(self, accuracy: Any = None, metrics: Mapping[str, Any] | None = None) -> None:
        """See `Monitor.describe_model`."""
        if accuracy is not None and (number := _number("accuracy", accuracy)) is not None:
            self._accuracy = number
        for name, value in (metrics or {}).items():
            if (number := _number(name, value)) is not None:
                self._metrics[str(name)] = number

    def save_sidecar(
        self,
        checkpoint: str | os.PathLike[str],
        record: RunRecord,
        spans: Spans,
        epoch: int | None,
        step: int | None,
    ) -> Path | None:
        """See `Monitor.save_sidecar`."""
        if self.model_id is None:
            logger.warning("a sidecar names a version of a model: give Monitor a model_id")
            return None
        sidecar = Sidecar(
            self.model_id,
            self.version or record.run_id,
            record.run_id,
            spans.run_traceparent,
            record.config_hash,
            datetime.now(UTC).isoformat(timespec="seconds"),
            epoch,
            step,
        )
        try:
            return sidecar.write(checkpoint)
        except (OSError, ValueError, TypeError) as error:
            logger.warning("no sidecar for %s: %s", describe(checkpoint), error)
        return None

    # -- what the lake knows ----------------------------------------------------------------------

    def ask(self, lake: Lake, record: RunRecord) -> None:
        """Find the parents' spans, and another run that made the same version differently; never waits."""
        if self.model_id is None or record.rank > 0:
            return
        self._asks = lake, record
        self._begin_to_ask(lake, record)

    def _begin_to_ask(self, lake: Lake, record: RunRecord) -> None:
        with self._lock:
            self._asking += 1
            self._has_asked.clear()
        thread = threading.Thread(target=self._ask, args=(lake, record), name="entrenar-lineage", daemon=True)
        thread.start()

    def wait(self, timeout_seconds: float) -> bool:
        """Whether it was found out within this time."""
        return self._has_asked.wait(timeout_seconds)

    def _ask(self, lake: Lake, record: RunRecord) -> None:
        with guard("lineage"):
            own = VersionId(str(self.model_id), self.version or record.run_id)
            with self._lock:
                parents = [parent.version for parent in self.parents if parent.version not in self._asked]
                wanted = parents if own in self._asked else [*parents, own]
                self._asked.update(wanted)
            rows = lake.query(_KNOWN, [[str(one) for one in wanted]], timeout=_ASK_SECONDS).to_pylist()
            found = {VersionId(row["model_id"], row["version"]): row for row in rows}  # of two, the later
            with self._lock:
                self.parents = [_with_span(parent, found.get(parent.version)) for parent in self.parents]
            for version in parents:
                if version not in found:
                    logger.warning(
                        "the parent %s is not in %s; the lineage shows it as missing", version, lake.url
                    )
            self._name_other(own, config_group(record.config), record.run_id, rows)
        with self._lock:
            self._asking -= 1
            if not self._asking:
                self._has_asked.set()

    def _name_other(self, own: VersionId, group: str, run_id: str, rows: list[dict[str, Any]]) -> None:
        for row in rows:
            is_same = (row["model_id"], row["version"]) == own and row["run_id"] != run_id
            if is_same and row["config_group"] not in (None, group):
                logger.warning(
                    "%s was made by %s with another configuration; give this one a version of its own, else "
                    "questions about it have two answers",
                    own,
                    f"run {row['run_id']}" if row["run_id"] else "hand",
                )
                return

    # -- the end ----------------------------------------------------------------------------------

    def record(self, spans: Spans, record: RunRecord, state: str, sums: Mapping[Series, Summary]) -> None:
        """Record the version, of a run that has not crashed."""
        if self.model_id is None or record.rank > 0 or state == "crashed":
            return
        if self.parents:
            self.wait(_WAIT_SECONDS)
        with self._lock:
            parents = list(self.parents)
        accuracy = _accuracy_in(sums) if self._accuracy is None else self._accuracy
        attributes: dict[str, Any] = {
            semconv.MODEL_ID: self.model_id,
            semconv.MODEL_VERSION_NAME: self.version or record.run_id,
            semconv.MODEL_ACCURACY: None if accuracy is None or math.isnan(accuracy) else accuracy,
            semconv.MODEL_CONFIG_HASH: record.config_hash,
            semconv.MODEL_CONFIG_GROUP: config_group(record.config),
            "training.run.state": state,
            "vcs.ref.head.revision": record.git_commit,
        }
        if parents:
            attributes[semconv.MODEL_PARENTS] = [str(parent.version) for parent in parents]
            attributes[semconv.MODEL_CHANGES] = [parent.change or "" for parent in parents]
        for name, value in self._further(sums).items():
            attributes[semconv.MODEL_METRIC + name] = value
        spans.point(
            semconv.MODEL_VERSION,
            attributes,
            [
                (parent.trace_id, parent.span_id, _link_attributes(parent))
                for parent in parents
                if parent.trace_id and parent.span_id
            ],
        )

    def _further(self, sums: Mapping[Series, Summary]) -> dict[str, float]:
        """What was given by hand, then the last finite values of the run's series, validation's first."""
        further = {name: value for name, value in self._metrics.items() if math.isfinite(value)}
        for series in sorted(sums, key=_importance):
            if len(further) >= MAX_METRICS:
                break
            if math.isfinite(value := sums[series].last_finite) and not semconv.is_of_machine(series.metric):
                further.setdefault(str(series), value)
        return further


def _with_span(parent: Parent, row: Mapping[str, Any] | None) -> Parent:
    if row is None or not row["span_id"]:
        return parent
    return replace(parent, trace_id=row["trace_id"], span_id=row["span_id"])


def _link_attributes(parent: Parent) -> dict[str, Any]:
    change = {} if parent.change is None else {semconv.LINK_CHANGE: parent.change}
    return {semconv.LINK_PARENT: str(parent.version), **change}


def _importance(series: Series) -> tuple[int, bool, Series]:
    split = split_of(series)
    place = _SPLITS.index(split) if split in _SPLITS else len(_SPLITS)
    return place, known_as(series.metric)[0] not in ("accuracy", "loss"), series


def _accuracy_in(sums: Mapping[Series, Summary]) -> float | None:
    """The last finite accuracy by any of its names, of the first split that has one."""
    named = [series for series in sums if known_as(series.metric)[0] == "accuracy"]
    for series in sorted(named, key=_importance):
        if math.isfinite(value := sums[series].last_finite):
            return value
    return None


def _number(name: str, value: Any) -> float | None:
    """A measurement by hand as a float; None, with a warning, where it is no number."""
    try:
        return float(value)
    except Exception:  # a stranger's __float__
        logger.warning("%s of the model: expected a number, got %s; it is left out", name, describe(value))
    return None
