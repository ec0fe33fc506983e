"""Spans and events of processes that are killed: each is one row, with the right end."""

from __future__ import annotations

import signal
from typing import Any

import pytest

#: Spans of one step each under a run span; ends and events right before the kill, segments of 64 kB.
SCRIPT = """
    from entrenar_otel.recording.notes import EVENT, SPAN_ENDED, SPAN_STARTED
    small_segments(64 << 10)

    def span(number, parent=None):
        return {
            "trace_id": "ab" * 16, "span_id": f"{number:016x}",
            "parent_span_id": None if parent is None else f"{parent:016x}",
            "name": "training.run" if parent is None else "training.step", "kind": "INTERNAL",
            "start_ns": time.time_ns(), "scope": "test", "attributes": {"number": number}, "links": [],
        }

    def run(run_id="dead", steps=1 << 60, die=0, interval=0.01, tick=None):
        counter = shared()
        if die:
            die_at_step(die, os.environ["ENTRENAR_LAKE"], os.environ["ENTRENAR_LIVE"])
        monitor = Monitor(run_id, quiet=True, interval_seconds=interval).start()
        note = recorded_run(monitor).recorder.note
        note(SPAN_STARTED, span(0))
        for i in range(1, steps + 1):
            started = span(i, 0)
            note(SPAN_STARTED, started)
            counter[0] = i
            monitor.log(loss=float(i), step=i)
            note(EVENT, {"name": "e", "time_ns": time.time_ns(), "span_id": started["span_id"], "step": i})
            counter[1] = i
            if i < steps:
                end = {"end_ns": time.time_ns(), "status": "OK", "status_message": None, "events": []}
                note(SPAN_ENDED, started | end)
                counter[2] = i
            if i == tick:
                open_run(monitor).heartbeat.tick()
        os.kill(os.getpid(), signal.SIGKILL)
"""
#: Without those that the run has of itself.
SPANS = (
    "SELECT span_id, status, status_message, start_time, end_time FROM spans "
    "WHERE scope = 'test' ORDER BY span_id"
)
EVENTS = "SELECT step FROM events WHERE name = 'e' ORDER BY step"
GONE = "the process is gone; not recovered yet"
REASON = "the process ended without closing its run"


def events(place: Any, run_id: Any) -> Any:
    return [row["step"] for row in place.lake.query(EVENTS, run_id=run_id).to_pylist()]


def spans(place: Any, run_id: Any = "dead") -> Any:
    rows = place.lake.query(SPANS, run_id=run_id).to_pylist()
    assert len({row["span_id"] for row in rows}) == len(rows), "a span twice"
    return {int(row["span_id"], 16): row for row in rows}


def test_killed_right_after_its_notes(place: Any) -> None:
    """Exact counts before and after recovery; what was open ends with the last sign of life."""
    place.counter()
    child = place.make_child(SCRIPT + "\n    run(steps=500, interval=60, tick=300)\n")
    assert child.end().returncode == -signal.SIGKILL
    assert len(place.segments()) > 1
    assert list(place.lake_path.glob("spans/*/*/*.parquet"))  # of the tick
    assert events(place, "dead") == list(range(1, 501))
    before = spans(place)
    assert list(before) == list(range(501))
    for number, row in before.items():
        is_open = number in (0, 500)
        assert (row["status"], row["status_message"]) == (("ERROR", GONE) if is_open else ("OK", None))
        assert (row["end_time"] is None) == is_open
    done = place.lake.recover()
    assert not list(place.live.iterdir())
    after = spans(place)
    for number in (0, 500):
        row = after.pop(number)
        assert (row["status"], row["status_message"]) == ("ERROR", REASON)
        assert row["start_time"] == before.pop(number)["start_time"]
        assert row["end_time"] == place.value("SELECT max(timestamp) FROM events")
    assert after == before
    assert events(place, "dead") == list(range(1, 501))
    closed = [document for one in done for document in one.spans if document["scope"] == "test"]
    assert [int(one["span_id"], 16) for one in closed] == [0, 500]
    assert {(one["status"], one["trace_id"], one["name"]) for one in closed} == {
        ("ERROR", "ab" * 16, "training.run"), ("ERROR", "ab" * 16, "training.step"),
    }  # fmt: skip
    assert place.lake.recover() == []
    assert {**after, **before} == {n: r for n, r in spans(place).items() if n not in (0, 500)}


def test_killed_anywhere_under_load(place: Any) -> None:
    """What `note` acknowledged is there once, between roll-overs, hand-overs and their steps."""
    parent = place.make_nursery(SCRIPT)
    reached = 0
    for die in range(8, 120, 7):
        counter = place.counter()
        run_id = f"dead-{die}"
        parent.fork(run_id=run_id, die=die)
        while not parent.is_ready():  # asked while it rolls
            found = spans(place, run_id)
            assert all((row["end_time"] is None) == (row["status"] != "OK") for row in found.values())
        assert parent.status() == -signal.SIGKILL
        started, noted, ended = counter[0], counter[1], counter[2]
        reached += bool(started)
        for recovered in (False, True):
            if recovered:
                place.lake.recover()
            found = spans(place, run_id)
            assert list(found) in (list(range(started + 1)), list(range(started + 2))) or not started
            assert events(place, run_id) in (list(range(1, noted + 1)), list(range(1, noted + 2)))
            ok = [number for number, row in found.items() if row["status"] == "OK"]
            assert ok in (list(range(1, ended + 1)), list(range(1, ended + 2)))
            assert all((row["end_time"] is None) == (row["status"] != "OK") or recovered
                       for row in found.values())  # fmt: skip
            assert all(row["end_time"] for row in found.values() if recovered)
        assert not list(place.live.iterdir())
    assert reached > 10


def test_recovery_killed_at_each_of_its_steps(place: Any) -> None:
    """The next one brings in the same spans and events, and says again which it ended."""
    place.counter()
    child = place.make_child(SCRIPT + "\n    run(steps=200, interval=60)\n")
    assert child.end().returncode == -signal.SIGKILL
    parent = place.make_nursery("""
        def run(die=0):
            if die:
                die_at_step(die, os.environ["ENTRENAR_LAKE"], os.environ["ENTRENAR_LIVE"])
            Lake(os.environ["ENTRENAR_LAKE"]).recover()
    """)
    restore = place.keep()
    ends = None
    for die in range(1, 300):
        restore()
        parent.fork(die=die)
        done = parent.status()
        found = spans(place)
        assert (list(found), events(place, "dead")) == (list(range(201)), list(range(1, 201)))
        place.lake.recover()
        found = {number: (row["status"], row["end_time"]) for number, row in spans(place).items()}
        assert (list(found), events(place, "dead")) == (list(range(201)), list(range(1, 201)))
        ends = ends or found
        assert found == ends
        assert [number for number, (status, _) in found.items() if status != "OK"] == [0, 200]
        if done == 0:
            break
    assert die > 20


@pytest.mark.parametrize("failing", [1, 2, 3])
def test_a_hand_over_that_failed_in_between_is_recovered(place: Any, failing: Any) -> None:
    """The process lives on without its lake, and dies; then its own half of a hand-over is completed."""
    place.counter()
    script = (
        SCRIPT
        + f"""
    import entrenar_otel.lake.store.storage as storage
    write, calls = storage.LocalStorage.write, 0
    def fail(self, name, *rest, **options):
        global calls
        calls += not name.startswith("runs")
        if calls >= {failing} and not name.startswith("runs"):
            raise OSError("the lake is away")
        write(self, name, *rest, **options)
    storage.LocalStorage.write = fail
    run(steps=50, interval=60, tick=50)
    """
    )
    script = script.replace(
        "if i == tick:", "if i == tick:\n                recorded_run(monitor).recorder.end('x')"
    )
    child = place.make_child(script)
    assert child.end().returncode == -signal.SIGKILL
    tables = {path.parts[-4] for path in place.lake_path.glob("*/*/*/*.parquet")}
    assert tables - {"runs"} == set(["events", "spans"][: failing - 1])
    for _ in range(2):
        assert (list(spans(place)), events(place, "dead")) == (list(range(51)), list(range(1, 51)))
        assert place.count() == 50
        place.lake.recover()
    assert [n for n, row in spans(place).items() if row["status"] == "ERROR"] == [0, 50]


def test_two_recoveries_at_once_end_a_span_once(place: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """One has the last segment in its hands while the other looks at the one before it."""
    from entrenar_otel.recording.segment import Snapshot

    place.counter()
    child = place.make_child(SCRIPT + "\n    run(steps=500, interval=60)\n")
    child.end()
    assert len(place.segments()) > 2
    found = Snapshot.read

    def read(path: Any, *given: Any) -> Any:
        snapshot = found(path, *given)
        monkeypatch.setattr(Snapshot, "read", found)
        place.lake.recover()  # everything but the segment that is locked
        return snapshot

    monkeypatch.setattr(Snapshot, "read", read)
    place.lake.recover()
    assert list(spans(place)) == list(range(501))
    assert place.value("SELECT count(*) FROM spans WHERE status = 'ERROR' AND scope = 'test'") == 2
