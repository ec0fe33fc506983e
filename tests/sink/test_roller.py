"""Roller: what arrived is in the lake, each sample once, whatever way it came; and the run beside it."""

from __future__ import annotations

from typing import Any

from .wire import ended, logs, resource, started, steps


def seqs(lake: Any, run_id: Any = "r", metric: Any = "loss") -> Any:
    sql = "SELECT seq FROM metrics WHERE metric = ? ORDER BY seq"
    return lake.query(sql, [metric], run_id=run_id).column(0).to_pylist()


def test_blocks_and_the_start_of_a_run_are_a_lake(receive: Any, lake: Any, cli: Any) -> None:
    receive(logs([started(), *steps(0, 100)]))
    assert seqs(lake) == list(range(100))
    row = lake.query("SELECT * FROM metrics WHERE metric = 'accuracy' AND step = 7").to_pylist()[0]
    assert (row["value"], row["rank"], row["attempt"], row["seq"]) == (7.1, 0, 1, 7)
    assert "r" in cli("ls").out
    shown = cli("show", "r").out
    assert "withheld" in shown
    assert "digits" in shown


def test_what_comes_twice_is_stored_once(receive: Any, lake: Any, roller: Any) -> None:
    receive(logs(steps(0, 100)), logs(steps(50, 100)))
    receive(logs(steps(0, 200)), logs(steps(300, 10)), logs(steps(120, 5)))
    receive(logs(steps(0, 400)))
    assert seqs(lake) == list(range(400))
    assert (roller.samples, roller.repeated) == (2000, 5 * (50 + 150 + 5 + 210))


def test_a_run_that_ends_is_complete_and_its_files_are_one(receive: Any, lake: Any, roller: Any) -> None:
    receive(logs([started(), *steps(0, 10)]))
    receive(logs(steps(0, 5), resource("other")))
    receive(logs([*steps(10, 10), ended()]))
    roller.settle()
    (run,) = lake.query("SELECT * FROM runs WHERE run_id = 'r'").to_pylist()
    assert (run["state"], run["host"], run["model_id"]) == ("completed", "elsewhere", "digits")
    assert seqs(lake) == list(range(20))
    assert len(list((lake.storage.root / "metrics").glob("*/run=r/*"))) == 1
