"""Two ranks that train together, each waiting for the other: stops, pauses and callbacks hang neither.

Each case runs in real processes that are joined by a socket; the main ones over PyTorch's gloo as well.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from entrenar_otel import Monitor
from entrenar_otel.andon import AndonConfig
from entrenar_otel.andon.remote import give
from entrenar_otel.errors import ConfigError
from entrenar_otel.lake import Lake
from entrenar_otel.recording.process.control import Command
from tests.ports import free_port

SCRIPT = Path(__file__).with_name("rank_script.py")
#: Longer than any of it takes, shorter than a person would wait: beyond it, it hangs.
LIMIT = 60.0
HAS_TORCH = importlib.util.find_spec("torch") is not None
NO_TORCH = "NOT TESTED over gloo: torch is missing; scripts/setup takes its CPU wheel from ../shared/wheels"
GLOO = pytest.param("gloo", marks=pytest.mark.skipif(not HAS_TORCH, reason=NO_TORCH))
also_gloo = pytest.mark.parametrize("pair", ["pipe", GLOO], indirect=True)
FLOOR = """
[[monitor.threshold]]
name = "floor"
metric = "accuracy"
min = 0.5
action = "{action}"
"""


@dataclass
class Rank:
    """How a rank ended: what its script said, and what anybody else wrote."""

    code: int
    said: list[list[Any]]
    stderr: str

    def all(self, first: str) -> list[list[Any]]:
        return [words[1:] for words in self.said if words[0] == first]

    def one(self, first: str) -> list[Any]:
        (words,) = self.all(first)
        return words


class Pair:
    """Two ranks of one run."""

    def __init__(self, folder: Path, backend: str) -> None:
        self.folder, self.backend = folder, backend
        self.lake = Lake(folder / "lake", folder / "live")
        self._started: list[subprocess.Popen[str]] = []

    def start(self, case: str, agreement: str = "alone", script: Path = SCRIPT) -> None:
        port = str(free_port())
        ends = socket.socketpair()
        for rank in (0, 1):
            environment = os.environ | {
                "RANK": str(rank),
                "WORLD_SIZE": "2",
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": port,
                "PEER": str(ends[rank].fileno()),
                "ENTRENAR_RUN_ID": "pair",
                "ENTRENAR_LAKE": str(self.folder / "lake"),
                "PYTHONPATH": os.pathsep.join(sys.path),
            }
            self._started.append(
                subprocess.Popen(
                    [sys.executable, str(script), case, self.backend, agreement],
                    env=environment,
                    pass_fds=[ends[rank].fileno()],
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
        for end in ends:
            end.close()

    def end(self) -> tuple[Rank, Rank]:
        zero, one = (
            Rank(code, [json.loads(line) for line in out.splitlines()], err)
            for code, out, err in self.outputs()
        )
        return zero, one

    def outputs(self) -> list[tuple[int, str, str]]:
        deadline = time.monotonic() + LIMIT
        ended = []
        for process in self._started:
            out, err = process.communicate(timeout=max(0.1, deadline - time.monotonic()))
            ended.append((process.returncode, out, err))
        return ended

    def run(self, case: str, agreement: str = "alone") -> tuple[Rank, Rank]:
        self.start(case, agreement)
        return self.end()

    def wait_for(self, word: str) -> None:
        for process in self._started:
            assert process.stdout is not None
            while word not in (line := process.stdout.readline()):
                assert line, "it ended first"

    def command(self, word: str) -> None:
        assert all(answer.taken for answer in give(self.lake, "pair", Command(word), "", LIMIT))

    def kill(self) -> None:
        for process in self._started:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            process.communicate()

    def query(self, sql: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.lake.query(sql).to_pylist()
        return rows

    def incidents(self) -> int:
        return len(list((self.folder / "lake" / "incidents").rglob("alert.json")))


@pytest.fixture
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Pair]:
    pair = Pair(tmp_path, getattr(request, "param", "pipe"))
    yield pair
    pair.kill()


def states(pair: Pair) -> list[str]:
    return [run.state for run in sorted(pair.lake.runs(), key=lambda run: run.rank)]


# -- a rank stops alone -------------------------------------------------------------------------


@also_gloo
def test_a_rank_stops_alone_calls_only_what_is_local_and_the_other_does_not_hang(pair: Pair) -> None:
    zero, one = pair.run("nan on 1")
    step, message, incident = one.one("AndonStop")
    assert step == 5
    assert "loss is nan at step 5" in message
    assert "This is rank 1 of 2." in message
    assert (Path(incident) / "alert.json").exists()
    assert zero.one("RuntimeError") == [6]
    assert states(pair) == ["crashed", "stopped"]
    rows = pair.query(
        "SELECT rank, max(step) AS last FROM metrics WHERE metric = 'loss' GROUP BY rank ORDER BY 1"
    )
    assert rows == [{"rank": 0, "last": 5}, {"rank": 1, "last": 5}]  # the samples of both, also the last
    assert one.all("alone") == [["alert"], ["stop"]]
    assert one.all("together") == []
    assert "a callback on stop is not called: it may wait for other ranks" in one.stderr
    assert "AndonConfig(agree=…)" in one.stderr


# -- all ranks stop together --------------------------------------------------------------------


@also_gloo
@pytest.mark.parametrize("case", ["nan on 1", "nan on both"])
def test_all_stop_at_the_same_step(pair: Pair, case: str) -> None:
    ranks = pair.run(case, "agree")
    for rank in ranks:
        assert rank.code == 0, rank.stderr
        assert rank.one("logged") == [5]  # log itself did not raise
        assert rank.one("AndonStop")[0] == 5
        assert rank.said.index(["together", "stop"]) > rank.said.index(["together", "alert"])
        assert rank.all("alone") == [["alert"], ["stop"]]
    assert states(pair) == ["stopped", "stopped"]
    assert pair.incidents() == 2
    assert "entrenar: recording run pair" in ranks[0].stderr
    assert "look at it with" in ranks[0].stderr
    assert not re.search("recording run|look at it with", ranks[1].stderr)  # it only warns
    assert "This is rank 1 of 2." in ranks[1].one("AndonStop")[1]
    other = "Another rank asked to stop" if case == "nan on 1" else "loss is nan at step 5"
    assert other in ranks[0].one("AndonStop")[1]


def test_a_loop_that_goes_on_is_stopped_again_and_callbacks_keep_step(pair: Pair) -> None:
    for rank in pair.run("goes on", "agree"):
        assert rank.code == 0, rank.stderr
        assert rank.one("went on") == [5]
        assert rank.one("AndonStop")[0] == 6
        assert rank.all("together") == [["alert"], ["stop"]] * 2


@also_gloo
def test_a_callback_that_fails_on_one_rank_hangs_neither(pair: Pair) -> None:
    zero, one = pair.run("callback fails", "agree")
    assert zero.one("AndonStop")[0] == one.one("AndonStop")[0] == 5
    assert one.all("alone") == [["alert"], ["stop"]]
    assert "on alert failed: ValueError: not on this rank" in one.stderr
    assert "a callback on stop is not called: one before it failed on this rank" in one.stderr
    assert "on alert failed: " in zero.stderr  # the other left while it waited


def test_a_rank_that_cannot_ask_stops_alone(pair: Pair) -> None:
    zero, one = pair.run("agree fails", "agree")
    assert one.one("AndonStop")[0] == 5
    assert one.all("together") == []
    assert "the ranks could not agree (TypeError: agree is wrong): this one stops" in one.stderr
    assert zero.one("RuntimeError") == [5]


def test_a_rank_that_raises_its_own_error_keeps_what_it_was_to_be_stopped_for(pair: Pair) -> None:
    zero, one = pair.run("raises", "agree")
    assert one.one("KeyError") == [5]
    assert zero.one("RuntimeError") == [5]
    assert "the run ended before a monitor.raise_if_stopped() of all ranks" in one.stderr
    assert pair.incidents() == 1
    assert states(pair) == ["crashed", "crashed"]


def test_a_stop_after_the_last_question_is_told(pair: Pair) -> None:
    zero, one = pair.run("after the loop", "agree")
    assert zero.one("ended") == one.one("ended") == [39]
    assert "the run ended before a monitor.raise_if_stopped() of all ranks" in one.stderr
    assert pair.incidents() == 1


def test_a_rank_whose_loop_is_longer_ends_with_an_error_when_the_other_leaves(pair: Pair) -> None:
    zero, one = pair.run("uneven", "agree")
    assert one.one("ended") == [5]
    assert zero.one("RuntimeError") == [5]


def test_a_rank_that_records_nothing_is_asked_too(pair: Pair) -> None:
    zero, one = pair.run("no lake on 0", "agree")
    assert "monitoring is off" in zero.stderr
    for rank in (zero, one):
        assert rank.code == 0, rank.stderr
        assert rank.one("AndonStop")[0] == 5
        assert rank.all("together") == [["alert"], ["stop"]]
    assert "This is rank 0 of 2, which records nothing now." in zero.one("AndonStop")[1]


def test_a_callback_that_stops_stops_all(pair: Pair) -> None:
    (pair.folder / "renacer.toml").write_text(FLOOR.format(action="notify"))
    zero, one = pair.run("callback stops", "agree")
    assert zero.one("AndonStop")[0] == one.one("AndonStop")[0] >= 5
    assert "a callback stops for floor" in one.one("AndonStop")[1]


def test_who_is_no_rank_is_not_asked() -> None:
    """With agree each rank must know of the others, and a forked data loader asks nobody."""
    asked = []

    def agree(mine: bool) -> bool:
        asked.append(os.getpid())
        return mine

    alerting = AndonConfig(agree=agree)
    with pytest.raises(ConfigError, match="expected world_size together with rank"):
        Monitor(rank=0, alerting=alerting)
    with Monitor(rank=1, world_size=2, alerting=alerting) as monitor:
        monitor.raise_if_stopped()
        if (pid := os.fork()) == 0:
            monitor.raise_if_stopped()
            os._exit(len(asked))
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1
    assert asked == [os.getpid()]


# -- rules and commands -------------------------------------------------------------------------


@also_gloo
@pytest.mark.parametrize("agreement", ["alone", "agree"])
def test_a_pause_is_a_stop_and_says_so(pair: Pair, agreement: str) -> None:
    (pair.folder / "renacer.toml").write_text(FLOOR.format(action="pause"))
    zero, one = pair.run("ruled", agreement)
    step, message, _ = zero.one("AndonStop")
    assert "(a pause is a stop where there are 2 ranks)" in message
    assert one.one("AndonStop" if agreement == "agree" else "RuntimeError")[0] in (step, step + 1)
    assert "paused" not in zero.stderr


@also_gloo
@pytest.mark.parametrize(("word", "agreement"), [("stop", "alone"), ("stop", "agree"), ("pause", "agree")])
def test_a_command_stops_every_rank(pair: Pair, agreement: str, word: str) -> None:
    pair.start("command", agreement)
    pair.wait_for("logged")
    pair.command(word)
    zero, one = pair.end()
    stopped = [rank.one("AndonStop") for rank in (zero, one) if rank.all("AndonStop")]
    assert any(f"{word} requested by" in message for _, message, _ in stopped)
    if agreement == "agree":
        assert zero.one("AndonStop")[0] == one.one("AndonStop")[0]
        assert zero.code == one.code == 0
    assert len(stopped) == 2 or zero.all("RuntimeError") or one.all("RuntimeError")


@pytest.mark.parametrize("agreement", ["alone", "agree"])
def test_no_rank_reduces_its_learning_rate_by_what_waits_for_others(pair: Pair, agreement: str) -> None:
    (pair.folder / "renacer.toml").write_text(FLOOR.format(action="reduce_lr"))
    pair.start("ruled", agreement)
    deadline = time.monotonic() + LIMIT
    sql = "SELECT count(*) AS n FROM events WHERE attributes['action'] = 'reduce_lr'"
    while not pair.query(sql)[0]["n"] and time.monotonic() < deadline:
        time.sleep(0.1)
    pair.command("stop")
    zero, one = pair.end()
    assert zero.all("alone")[:2] == [["alert"], ["reduce_lr"]]
    assert ["reduce_lr"] not in zero.all("together") + one.all("together")
    assert "a callback on reduce_lr is not called: it may wait for other ranks" in zero.stderr
    assert ["reduce_lr"] not in one.all("alone")


@pytest.mark.parametrize("pair", [GLOO], indirect=True)
def test_the_example_of_the_documentation(pair: Pair) -> None:
    text = (Path(__file__).parents[2] / "docs" / "ranks.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"^```python\n(.*?)^```$", text, flags=re.M | re.S)
    script = pair.folder / "train.py"
    script.write_text(example)
    (pair.folder / "renacer.toml").write_text(FLOOR.format(action="reduce_lr").replace("0.5", "2"))
    pair.start("documentation", script=script)
    for number, (code, out, err) in enumerate(pair.outputs()):
        assert code == 0, err
        # each rank's rule asks once, perhaps not in the same step: halved once or twice, on both alike
        assert re.fullmatch(rf"rank {number} stopped at step 500, learning rate 0.0(5|25)\n", out)
    assert states(pair) == ["stopped", "stopped"]
