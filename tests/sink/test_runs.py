"""Runs in a sink's lake: attempts, states, and names from the network."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest

from entrenar_otel.lake.recover import close_all_dead
from entrenar_otel.otel.otlp import names
from entrenar_otel.sink.roller import Roller

from .wire import ended, event, log_file, logs, resource, started, steps

SECOND = 10**9


class Clock:
    def __init__(self) -> None:
        self.offset = 0
        self.real = time.time_ns

    def __call__(self) -> Any:
        return self.real() + self.offset


@pytest.fixture
def clock() -> Any:
    return Clock()


@pytest.fixture
def open_roller(tmp_path: Any, lake: Any, clock: Any) -> Any:
    opened: list[Any] = []

    def make() -> Any:
        for roller in opened:
            roller.close()
        opened[:] = [Roller(lake.storage, tmp_path / "state", clock_ns=clock)]
        return opened[0]

    yield make
    for roller in opened:
        roller.close()


@pytest.fixture
def roll(tmp_path: Any) -> Any:
    def roll(roller: Any, *requests: Any) -> None:
        path = log_file(tmp_path / "state", *requests)
        roller.roll(path)
        path.unlink()
        roller.settle()

    return roll


def state(lake: Any, run_id: Any = "r") -> Any:
    return [
        (run["state"], run["reason"]) for run in lake.query("SELECT * FROM runs", run_id=run_id).to_pylist()
    ]


def test_a_run_of_which_nothing_is_heard_has_crashed_until_it_speaks(
    lake: Any, open_roller: Any, clock: Any, roll: Any
) -> None:
    roller = open_roller()
    roll(roller, logs([started(), *steps(0, 5)]))
    assert state(lake) == [("running", None)]
    clock.offset = 200 * SECOND
    roller.settle()
    assert state(lake) == [("running", None)]
    clock.offset = 400 * SECOND
    roller.settle()
    assert state(lake) == [("crashed", "nothing heard for 300 s")]
    clock.offset = 0  # requests come by the real clock
    roll(roller, logs(steps(5, 5)))
    assert state(lake) == [("running", None)]
    roll(roller, logs([ended("stopped", **{names.REASON: "enough"})]))
    assert state(lake) == [("stopped", "enough")]


def test_a_run_that_is_idle_or_paused_lives_by_its_sign_of_life(
    lake: Any, open_roller: Any, clock: Any, roll: Any, monkeypatch: Any
) -> None:
    """A step in ten minutes: what the exporter says each minute is one event, and keeps the run alive."""
    at_arrival = SimpleNamespace(time_ns=clock, time=time.time)
    monkeypatch.setattr("entrenar_otel.sink.request_log.time", at_arrival)
    roller = open_roller()
    roll(roller, logs([started(), *steps(0, 1)]))
    for minute in range(1, 9):
        clock.offset = minute * 60 * SECOND
        roll(roller, logs([started()]) if minute != 6 else logs(steps(1, 1)))
        assert state(lake) == [("running", None)]
    clock.offset += 200 * SECOND
    roller.settle()
    assert state(lake) == [("running", None)]
    clock.offset += 101 * SECOND
    roller.settle()
    assert state(lake) == [("crashed", "nothing heard for 300 s")]
    assert lake.query("SELECT count(*) AS n FROM events").to_pylist() == [{"n": 1}]


def test_a_run_is_not_silent_while_what_it_said_waits_to_be_rolled(
    lake: Any, open_roller: Any, clock: Any, roll: Any
) -> None:
    """After ten minutes in which the lake was away, or a roll that took as long."""
    roller = open_roller()
    roll(roller, logs([started()]))
    rolled_ns = clock()
    clock.offset = 600 * SECOND
    roller.settle(rolled_ns + 200 * SECOND)
    assert state(lake) == [("running", None)]
    roller.settle(rolled_ns + 310 * SECOND)
    assert state(lake) == [("crashed", "nothing heard for 300 s")]


def test_a_sink_that_was_away_waits_before_it_says_that_a_run_has_crashed(
    lake: Any, open_roller: Any, clock: Any, roll: Any
) -> None:
    roll(open_roller(), logs([started()]))
    clock.offset = 4000 * SECOND
    roller = open_roller()
    roller.settle()
    assert state(lake) != [("crashed", "nothing heard for 300 s")]  # nobody was there to hear it
    clock.offset += 301 * SECOND
    roller.settle()
    assert state(lake) == [("crashed", "nothing heard for 300 s")]


@pytest.mark.parametrize("is_forgotten", [False, True])
def test_a_new_sink_takes_back_what_an_earlier_one_said(
    tmp_path: Any, lake: Any, open_roller: Any, clock: Any, roll: Any, is_forgotten: Any
) -> None:
    roller = open_roller()
    roll(roller, logs([started(), *steps(0, 5)]))
    clock.offset = 400 * SECOND
    roller.settle()
    roller.close()
    if is_forgotten:
        (tmp_path / "state/known.sqlite").unlink()
    roll(open_roller(), logs(steps(0, 8)))
    assert state(lake) == [("running", None)]
    assert lake.query("SELECT count(*) AS n FROM metrics").to_pylist() == [{"n": 40}]


def test_a_running_run_is_followed_by_a_sink_that_has_forgotten_it(
    tmp_path: Any, lake: Any, open_roller: Any, clock: Any, roll: Any
) -> None:
    roll(open_roller(), logs([started()]))
    open_roller().close()
    (tmp_path / "state/known.sqlite").unlink()
    roller = open_roller()
    clock.offset = 301 * SECOND
    roller.settle()
    assert state(lake) == [("crashed", "nothing heard for 300 s")]


def test_recovery_of_a_sinks_lake_closes_nothing(lake: Any, open_roller: Any, roll: Any) -> None:
    roll(open_roller(), logs([started()]))
    close_all_dead(lake.storage)
    lake.recover()
    assert state(lake) == [("running", None)]


def test_attempts_are_what_processes_say_and_else_the_next(lake: Any, receive: Any) -> None:
    def at(process: Any, **more: Any) -> None:
        receive(logs(steps(0, 1), resource(process=process, **more)))

    at("late", **{"training.run.attempt": 3})
    at("unknown")
    at("same", **{"training.run.attempt": 3})
    at("first", **{"training.run.attempt": 1})
    at("other rank", rank=1, **{"training.run.attempt": 3})
    at("odd", **{"training.run.attempt": 1 << 40})
    at("unknown", **{"training.run.attempt": 9})  # it has its number
    found = lake.query("SELECT attempt, rank FROM runs ORDER BY rank, attempt").to_pylist()
    assert [(row["rank"], row["attempt"]) for row in found] == [
        (0, 1),
        (0, 3),
        (0, 4),
        (0, 5),
        (0, 6),
        (1, 3),
    ]
    counts = lake.query("SELECT attempt, count(*) AS n FROM metrics GROUP BY ALL ORDER BY 1").to_pylist()
    assert [row["n"] for row in counts] == [5, 10, 5, 5, 5]


def test_ranks_that_call_their_process_the_same_keep_their_rows_apart(lake: Any, receive: Any) -> None:
    receive(*(logs(steps(10 * rank, 10), resource(process="p", rank=rank)) for rank in range(3)))
    found = lake.query("SELECT rank, min(seq) AS low, count(*) AS n FROM metrics GROUP BY ALL ORDER BY 1")
    assert [tuple(row.values()) for row in found.to_pylist()] == [(0, 0, 50), (1, 10, 50), (2, 20, 50)]


@pytest.mark.parametrize(
    "run_id",
    ["../../etc/passwd", "a/b\\c", "\x1b[31mred\x1b[0m", "x" * 1000, "*?[", "-", "..", "é\u202e\n", "007"],
)
def test_hostile_ids_stay_in_the_lake_and_off_the_terminal(
    lake: Any, receive: Any, cli: Any, run_id: Any, tmp_path: Any
) -> None:
    of = resource(run_id, process=f"../{run_id}")
    receive(logs([started(**{names.MODEL_ID: run_id, names.HOST: run_id}), *steps(0, 3)], of))
    assert lake.query("SELECT DISTINCT run_id FROM metrics").column(0).to_pylist() == [run_id]
    assert {path.name for path in tmp_path.iterdir()} <= {"lake", "state", "live"}
    for command in (["ls"], ["show", run_id], ["query", "SELECT run_id, host FROM runs"]):
        if run_id == "-" and command[0] == "show":
            continue
        out = cli(*command).out
        assert not set("\x1b\u202e") & set(out)


def test_what_is_no_run_id_is_refused_and_said(lake: Any, receive: Any, roller: Any, caplog: Any) -> None:
    for odd in ("", "x" * 1025):
        receive(logs(steps(0, 3), resource(odd)))
    receive(logs(steps(0, 3), resource() | {"training.run.id": 7}), logs(steps(0, 3), resource(rank=-1)))
    assert roller.unstorable.counts == {"resources": 4}
    assert lake.runs() == []
    assert "training.run.id is not text of 1 to 1,024 characters" in caplog.text


def test_a_wrong_record_is_refused_and_the_others_stored(
    lake: Any, receive: Any, roller: Any, caplog: Any
) -> None:
    good, wrong, later = (steps(first, 5)[0] for first in (0, 5, 10))
    wrong.body.bytes_value = wrong.body.bytes_value[:-8]
    receive(logs([good, wrong, later]))
    assert [row["seq"] for row in lake.query("SELECT DISTINCT seq FROM metrics ORDER BY 1").to_pylist()] == [
        *range(5), *range(10, 15),
    ]  # fmt: skip
    assert roller.unstorable.counts == {"records of samples": 1}
    assert "('r', 0, 'p')" in caplog.text


def test_more_runs_than_a_sink_takes_are_refused(lake: Any, tmp_path: Any, caplog: Any) -> None:
    roller = Roller(lake.storage, tmp_path / "state", max_going=2)
    roller.roll(log_file(tmp_path / "state", *(logs(steps(0, 1), resource(f"r{i}")) for i in range(3))))
    roller.close()
    assert sorted(record.run_id for record in lake.runs()) == ["r0", "r1"]
    assert roller.unstorable.counts == {"runs": 1}
    assert "2 processes are recording already" in caplog.text


def test_the_end_may_come_before_the_start(lake: Any, receive: Any) -> None:
    receive(logs([ended()]))
    receive(logs([started(), event("e", "0:8"), *steps(0, 5)]))
    (run,) = lake.query("SELECT state, model_id, started_at < ended_at AS in_order FROM runs").to_pylist()
    assert run == {"state": "completed", "model_id": "digits", "in_order": True}


def test_a_command_to_a_run_is_given_where_it_runs(lake: Any, open_roller: Any, roll: Any, cli: Any) -> None:
    import socket

    roll(open_roller(), logs([started(**{names.HOST: socket.gethostname()})]))
    answer = cli("stop", "r")
    assert answer.code == 1
    assert "is in the lake of a sink, which only hears of it: give the command on" in answer.err


def test_many_processes_in_one_roll_cost_no_more_each(receive: Any, lake: Any, monkeypatch: Any) -> None:
    """To find a run's record, its own folder is listed, not those of all others; and it is written once."""
    listed: list[str] = []
    real = type(lake.storage).list
    monkeypatch.setattr(
        type(lake.storage), "list", lambda self, name: listed.append(name) or real(self, name)
    )
    receive(*(logs([started(), *steps(0, 1)], resource(f"run{number}")) for number in range(20)))
    assert not [name for name in listed if name == "runs/day=2023-11-14"]
    assert len(lake.runs()) == 20
    assert {run.model_id for run in lake.runs()} == {"digits"}


def test_crashes_are_told_until_the_run_is_resumed_or_a_day_later(
    lake: Any, open_roller: Any, clock: Any, roll: Any
) -> None:
    def crashed() -> Any:
        return [(crash.run_id, crash.rank, crash.model_id, crash.attempt) for crash in roller.crashes]

    def of(run_id: str, process: str = "p", **more: Any) -> Any:
        return resource(run_id, process=process, **more)

    roller = open_roller()
    roll(roller, logs([started(), *steps(0, 5), ended("crashed")], of("raised", rank=3)))
    roll(roller, logs([started(), ended("completed")], of("well")), logs([started()], of("silent")))
    assert crashed() == [("raised", 3, "digits", 1)]
    clock.offset = 400 * SECOND
    roller.settle()
    assert sorted(crashed()) == [("raised", 3, "digits", 1), ("silent", 0, "digits", 1)]
    roller = open_roller()  # it is remembered
    roller.settle()
    assert len(crashed()) == 2
    roll(roller, logs(steps(5, 5), of("silent")))  # it speaks again
    assert [name for name, *_ in crashed()] == ["raised"]
    roll(roller, logs(steps(0, 1), of("raised", "p2", rank=3)))  # the next attempt
    assert crashed() == []
    roll(roller, logs([ended("crashed")], of("raised", "p2", rank=3)))
    assert crashed() == [("raised", 3, "", 2)]
    roll(roller, logs(steps(9, 1), of("raised", rank=3)))  # what was late of the first
    assert crashed() == [("raised", 3, "", 2)]
    clock.offset = 25 * 3600 * SECOND
    roller.settle()
    assert "raised" not in [name for name, *_ in crashed()]
