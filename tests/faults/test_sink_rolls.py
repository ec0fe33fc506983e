"""A sink killed at each step of a roll, a merge or a closing: the next one makes the same lake of it."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

SCRIPT = """
    from pathlib import Path
    from entrenar_otel.lake.store.storage import LocalStorage
    from entrenar_otel.sink.known.database import Database
    from entrenar_otel.sink.roller import Roller

    def run(die=0, settle=False, silent=300.0, forget=False, later=0):
        lake, state = os.environ["ENTRENAR_LAKE"], os.environ["ENTRENAR_LIVE"]
        if die:
            die_at_step(die, lake, state)
            opened = Database._open
            def step(sql):  # SQLite's own files are not seen: the ends of its transactions are steps
                if sql.startswith(("BEGIN", "COMMIT")):
                    open(f"{state}/step", "w").close()
            def stepping(self):
                connection = opened(self)
                connection.set_trace_callback(step)
                return connection
            Database._open = stepping
        now = time.time_ns() + later * 10**9
        clock = lambda: now
        roller = Roller(LocalStorage(Path(lake)), Path(state), clock_ns=clock, silent_seconds=silent)
        for path in sorted(Path(state).glob("requests-*.log"))[:-1]:
            roller.roll(path)
            path.unlink()
        now += int(2 * silent) * 10**9
        if settle:
            roller.settle()
        roller.close()
"""


def wire() -> Any:
    """The requests of tests/sink."""
    if "sink_wire" not in sys.modules:
        path = Path(__file__).parents[1] / "sink/wire.py"
        spec = importlib.util.spec_from_file_location("sink_wire", path)
        assert spec is not None
        assert spec.loader is not None
        sys.modules["sink_wire"] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules["sink_wire"]


def lake_of(place: Any) -> dict[str, Any]:
    """All files of the lake, but for what is begun, with what is in them."""
    found = {}
    for path in sorted(place.lake_path.rglob("*")):
        name = str(path.relative_to(place.lake_path))
        if path.suffix == ".parquet":
            found[name] = sorted(map(repr, pq.read_table(path, partitioning=None).to_pylist()))
    return found


def files(place: Any) -> None:
    """Three files of the log: two processes, events, spans, repetitions, an end, and a foreign client."""
    w = wire()
    place.lake_path.mkdir()
    from opentelemetry.proto.trace.v1.trace_pb2 import Span

    def span(end: int) -> Any:
        return Span(
            name="training.run", trace_id=b"t" * 16, span_id=b"s" * 8,
            start_time_unix_nano=w.CLOCK_NS, end_time_unix_nano=w.CLOCK_NS + end,
        )  # fmt: skip

    state, other = place.live, w.resource(rank=1, process="q")
    w.log_file(state, w.logs([w.started(), *w.steps(0, 30)]), w.logs(w.steps(0, 20), other))
    w.log_file(
        state,
        w.logs([*w.steps(20, 30), w.event("e", "0:8"), w.event("e", "0:16")]),
        (w.Signal.TRACES, w.traces([span(10_000)])),
        w.logs([w.event("login", body="x")], {"service.name": "web"}, scope="app"),
    )
    w.log_file(
        state,
        w.logs([*w.steps(0, 60), w.event("e", "0:8"), w.ended()]),
        w.logs(w.steps(40, 5), other),
        (w.Signal.TRACES, w.traces([span(20_000)])),
    )
    log = w.RequestLog(state)  # the one that a sink would write next
    log.close()


def dies_at_each_step(place: Any, least: int, **arguments: Any) -> dict[str, Any]:
    """The same lake comes out, whichever step of a run was its last."""
    nursery = place.make_nursery(SCRIPT)
    restore = place.keep()
    nursery.fork(**arguments)
    assert nursery.status() == 0
    whole = lake_of(place)
    steps = 0
    while True:
        restore()
        steps += 1
        nursery.fork(**arguments, die=steps)
        done = nursery.status()
        if done:
            nursery.fork(**arguments)
            assert nursery.status() == 0
        assert lake_of(place) == whole, steps
        if not done:
            break
    assert steps > least
    return whole


def test_a_roll(place: Any) -> None:
    files(place)
    dies_at_each_step(place, 30)
    answer = place.lake.query(
        "SELECT rank, count(*) AS n, count(DISTINCT seq) AS seqs FROM metrics GROUP BY 1"
    )
    assert sorted(map(tuple, (row.values() for row in answer.to_pylist()))) == [(0, 300, 60), (1, 125, 25)]
    (span,) = place.lake.query("SELECT duration_seconds FROM spans").to_pylist()
    assert span["duration_seconds"] == 2e-5


def test_merging_and_closing(place: Any) -> None:
    files(place)
    nursery = place.make_nursery(SCRIPT)
    nursery.fork()
    assert nursery.status() == 0
    whole = dies_at_each_step(place, 10, settle=True)
    assert len([name for name in whole if name.startswith("metrics/")]) == 2
    states = place.lake.query("SELECT rank, state, reason FROM runs ORDER BY rank").to_pylist()
    assert [row["state"] for row in states] == ["completed", "crashed"]
    assert states[1]["reason"] == "nothing heard for 300 s"
