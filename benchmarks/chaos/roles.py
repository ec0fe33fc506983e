"""Roles: what processes do at the same time, each until it is killed."""

from __future__ import annotations

import contextlib
import random
import time
from datetime import timedelta

import duckdb

from benchmarks.chaos.check import check, check_pruned
from benchmarks.chaos.place import Place
from benchmarks.chaos.writer import write
from entrenar_otel.errors import NotMeasured, RunError

#: What a query may say of a run that has not written its record yet.
_NOT_YET = (NotMeasured, RunError)


def read(place: Place, seed: int) -> None:
    """Ask for runs, living and dead, and check each answer."""
    chance, lake = random.Random(seed), place.open_lake()
    while True:
        runs = sorted(path.name for path in place.acks.iterdir())
        run_id = chance.choice(runs[-8:] if chance.random() < 0.7 else runs) if runs else None
        if run_id is None or (place.pruned / run_id).exists():
            time.sleep(0.05)
            continue
        with contextlib.suppress(*_NOT_YET):
            place.tell("rows read", check(place, lake, run_id))
            place.tell("reads")


def recover(place: Place, seed: int) -> None:
    """Recover, and compact what has ended."""
    chance, lake = random.Random(seed), place.open_lake()
    while True:
        place.tell("recoveries", len(lake.recover(thorough=chance.random() < 0.5)))
        time.sleep(chance.uniform(0.0, 0.2))


def prune(place: Place, seed: int) -> None:
    """Prune the runs that are marked for it, one of them after the other, again and again."""
    chance, lake = random.Random(seed), place.open_lake()
    while True:
        marked = sorted(path.name for path in place.pruned.iterdir())
        if marked:
            try:
                place.tell("prunes", len(lake.prune(timedelta(0), chance.choice(marked))))
            except (OSError, duckdb.IOException):  # a compaction replaced a file meanwhile: again
                place.tell("prunes that met a compaction")
        time.sleep(chance.uniform(0.0, 0.2))


def look(place: Place, run_id: str, mark: int, seed: int) -> None:
    """Check a run that has just died; with `mark`, it may be pruned from now on."""
    lake = place.open_lake()
    rows = check(place, lake, run_id)
    place.tell("rows read", rows)
    place.tell("runs checked")
    if mark and rows:
        (place.pruned / run_id).with_suffix(".new").write_text(str(rows))
        (place.pruned / run_id).with_suffix(".new").rename(place.pruned / run_id)


def settle(place: Place, seed: int) -> None:
    """All are dead: bring in what they left, check every run once more, and that nothing is left over."""
    lake = place.open_lake()
    lake.recover()
    for path in sorted(place.acks.iterdir()):
        if (place.pruned / path.name).exists():
            lake.prune(timedelta(0), path.name)
            check_pruned(place, lake, path.name)
        else:
            place.tell("rows read", check(place, lake, path.name))
        place.tell("runs checked")
    states = [row["state"] for row in lake.query("SELECT state FROM runs").to_pylist()]
    if running := states.count("running"):
        place.tell("left over", running, f"{running} dead runs are still 'running'")
    for left in sorted(path.name for path in place.live.iterdir() if not path.name.endswith(".damaged")):
        place.tell("left over", 1, f"{left} is left in the live folder")
    for damaged in sorted(place.live.glob("*.damaged")):
        place.tell("damaged", 1, damaged.name)
    if temporary := sum(1 for _ in place.lake.rglob(".*.tmp")):
        place.tell("temporary files", temporary)


ROLES = {
    "write": write,
    "read": read,
    "recover": recover,
    "prune": prune,
    "look": look,
    "settle": settle,
}
