"""Beats: a run that cannot be seen from here is heard of through the lake."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from entrenar_otel.lake import Lake
from entrenar_otel.lake.records.pulse import (
    BEAT_SECONDS,
    BELIEVED_SECONDS,
    as_seen,
    life_of,
    remove_beat,
    write_beat,
)
from entrenar_otel.lake.records.runs import COMPLETED, RunRecord, new_record, write_record
from entrenar_otel.recording.process.life import Life
from entrenar_otel.recording.process.origin import Origin


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake")


@pytest.fixture
def record(lake: Lake) -> RunRecord:
    """Of a run that began an hour ago, on a host whose live folder is not this one's."""
    made = new_record(
        run_id="far/away", rank=0, world_size=1, day="2026-11-29", config=None, model_id=None, version=None,
        process="far-1-abc", live="/nowhere",
    )  # fmt: skip
    made = replace(made, attempt=1, started_at=datetime.now(UTC) - timedelta(hours=1))
    write_record(lake.storage, made)
    return made


def beat_of(lake: Lake) -> Path:
    (path,) = Path(lake.url).glob("beats/*/*/*")
    return path


def change(lake: Lake, at: float = 0.0, **origin: Any) -> None:
    """Let the beat be so many seconds older, and of elsewhere."""
    document = json.loads(beat_of(lake).read_text())
    document["at"] -= at
    document["origin"].update(origin)
    beat_of(lake).write_text(json.dumps(document))


def test_a_beat_is_life_and_silence_is_unknown(lake: Lake, record: RunRecord) -> None:
    """Without a lock that could be seen; believed for several beats, since a lake may be slow."""
    assert BELIEVED_SECONDS >= 5 * BEAT_SECONDS
    assert as_seen(lake.storage, record).state == "unknown"
    write_beat(lake.storage, record)
    change(lake, machine="another")
    assert as_seen(lake.storage, record) == record
    change(lake, BELIEVED_SECONDS + 60)
    seen = as_seen(lake.storage, record)
    assert seen.state == "unknown"
    assert "recover --force" in str(seen.reason)
    remove_beat(lake.storage, record)
    remove_beat(lake.storage, record)
    assert life_of(lake.storage, record) is Life.UNKNOWN


def test_a_run_that_began_just_now_is_believed(lake: Lake, record: RunRecord) -> None:
    """Its record is its first beat."""
    fresh = replace(record, started_at=datetime.now(UTC))
    assert as_seen(lake.storage, fresh) == fresh


def test_a_beat_proves_death_where_the_process_is_seen_to_be_gone(lake: Lake, record: RunRecord) -> None:
    """Even where its live folder was removed with lock and segments; a fresh beat changes nothing."""
    write_beat(lake.storage, record)
    assert life_of(lake.storage, record) is Life.ALIVE
    change(lake, started=Origin.here().started + 1)
    assert life_of(lake.storage, record) is Life.DEAD
    assert as_seen(lake.storage, record).state == "crashed"
    write_record(lake.storage, record.ended(COMPLETED, datetime.now(UTC)))  # meanwhile
    assert life_of(lake.storage, record) is Life.ALIVE


@pytest.mark.parametrize(
    "text",
    ["", "no json", "[]", "{}", '{"at": 1e400}', '{"at": "x", "origin": {}}', '{"origin": 3, "at": {}}'],
)
def test_a_beat_that_cannot_be_read_says_nothing(lake: Lake, record: RunRecord, text: str) -> None:
    """A lake is a folder to which others write."""
    write_beat(lake.storage, record)
    beat_of(lake).write_text(text)
    assert life_of(lake.storage, record) is Life.UNKNOWN
