"""Answers: what the page asks for, and gets as JSON or as curves."""

from __future__ import annotations

import hashlib
import json
import math
import secrets
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from entrenar_processors.plain import plain

from entrenar_otel._version import __version__
from entrenar_otel.errors import BadInput
from entrenar_otel.lake import Lake
from entrenar_otel.page.curves import MAX_COLUMNS, Wanted, all_lines
from entrenar_otel.page.full_rate import FullRate
from entrenar_otel.page.run_facts import facts_of
from entrenar_otel.page.run_list import RunList
from entrenar_otel.page.watched_runs import Seen, WatchedRuns
from entrenar_otel.page.wire import encode
from entrenar_otel.redact import without_credentials
from entrenar_otel.views.look import LEVEL_COLOURS, LIMIT, LINES, NONFINITE
from entrenar_otel.views.model import Axis

if TYPE_CHECKING:
    from entrenar_processors.config.models import Config

#: Runs in one question, and how wide a running mean may be.
MAX_RUNS, MAX_WINDOW = 100, 100_001
_MAX_RANK = 10**8
JSON, CURVES = "application/json; charset=utf-8", "application/octet-stream"
Query = Mapping[str, Sequence[str]]


class Answer(NamedTuple):
    """A body, and the tag by which a client says that it has it; without a body it does."""

    body: bytes | None
    content_type: str
    etag: str


class Answers:
    """Answers each question of `paths`, from any thread.

    Questions with wrong parameters raise BadInput, of a run that is not there KeyError; QueryError, LakeError
    where the lake fails.
    """

    def __init__(self, lake: Lake, config: Config | None = None) -> None:
        self._lake = lake
        self.runs = RunList(lake)
        self._watched = WatchedRuns(lake, config)
        self._full_rate = FullRate(lake)
        # versions are numbers of this process
        self._nonce = secrets.token_hex(4)
        #: Whether there is a log-in, and so a way out.
        self.has_token = False
        self.paths = {
            "/api/about": self._about,
            "/api/runs": self._runs,
            "/api/facts": self._facts,
            "/api/curves": self._curves,
        }

    def answer(self, path: str, query: Query, known: str) -> Answer:
        """`known` are the tags that the client has."""
        return self.paths[path](query, known)

    def _about(self, _query: Query, known: str) -> Answer:
        return _json({**about(self._lake), "has_token": self.has_token}, known)

    def _runs(self, _query: Query, known: str) -> Answer:
        return _json({"runs": self.runs.runs()}, known)

    def _facts(self, query: Query, known: str) -> Answer:
        seen = self._seen(query)
        facts = [facts_of(one.view, one.version) for _, one in seen]
        return _json({"runs": facts}, known)

    def _curves(self, query: Query, known: str) -> Answer:
        wanted = wanted_of(query)
        seen = self._seen(query)
        told = repr((self._nonce, wanted, [(run_id, one.version) for run_id, one in seen]))
        etag = f'"{hashlib.sha256(told.encode()).hexdigest()[:20]}"'
        if etag in known:
            return Answer(None, CURVES, etag)
        lines = all_lines([(run_id, one.view) for run_id, one in seen], wanted, self._full_rate)
        versions = {run_id: one.version for run_id, one in seen}
        return Answer(encode(lines, axis=wanted.axis.value, versions=versions), CURVES, etag)

    def _seen(self, query: Query) -> list[tuple[str, Seen]]:
        run_ids = [*dict.fromkeys(query.get("run", ()))]
        if not 1 <= len(run_ids) <= MAX_RUNS:
            raise BadInput(f"expected run= from 1 to {MAX_RUNS} times, got {len(run_ids)}")
        for run_id in run_ids:
            if not self.runs.has(run_id):
                raise KeyError(run_id)
        rank = _whole(query, "rank", 0, 0, _MAX_RANK) if query.get("rank") else None
        seen = self._watched.see_all(run_ids, rank, ended=self.runs.ended, of=len(self.runs))
        return [*zip(run_ids, seen, strict=True)]


def about(lake: Lake) -> dict[str, Any]:
    """What is said of the page itself: the version, the lake, colours."""
    return {
        "version": __version__,
        "lake": without_credentials(lake.url),
        "colours": {"lines": LINES, "levels": LEVEL_COLOURS, "limit": LIMIT, "nonfinite": NONFINITE},
    }


def wanted_of(query: Query) -> Wanted:
    """From a question's parameters. Raises BadInput.

    >>> wanted_of({"metric": ["loss"], "x": ["epoch"], "columns": ["300"]})
    Wanted(metric='loss', axis=<Axis.EPOCH: 'epoch'>, columns=300, low=None, high=None, window=1)
    """
    metric = query.get("metric", [""])[0]
    if not metric:
        raise BadInput("expected metric=, the name of a metric")
    axis = query.get("x", [Axis.STEP.value])[0]
    if axis not in [each.value for each in Axis]:
        raise BadInput(f"expected x=step, epoch or time, got {axis!r}")
    columns = _whole(query, "columns", 1000, 1, MAX_COLUMNS)
    window = _whole(query, "window", 1, 1, MAX_WINDOW)
    return Wanted(metric, Axis(axis), columns, _place(query, "from"), _place(query, "to"), window)


def _whole(query: Query, name: str, default: int, least: int, most: int) -> int:
    text = query.get(name, [str(default)])[0]
    if not (text.isascii() and text.isdigit() and len(text) < 10 and least <= int(text) <= most):
        raise BadInput(f"expected {name}= a whole number from {least} to {most:,}, got {text[:40]!r}")
    return int(text)


def _place(query: Query, name: str) -> float | None:
    text = query.get(name, [""])[0]
    if not text:
        return None
    try:
        place = float(text)
    except ValueError:
        place = math.nan
    if not math.isfinite(place):
        raise BadInput(f"expected {name}= a number, got {text[:40]!r}")
    return place


def _json(value: Any, known: str) -> Answer:
    body = json.dumps(plain(value), separators=(",", ":"), allow_nan=False).encode()
    etag = f'"{hashlib.sha256(body).hexdigest()[:20]}"'
    return Answer(None if etag in known else body, JSON, etag)
