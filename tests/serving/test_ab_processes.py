"""An A/B test of many processes: one is killed, one was forked, and the counts are exact."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from entrenar_otel import Monitor
from entrenar_otel.lake import Lake
from entrenar_otel.serving import ABTest, ab_test

PROGRAM = """
import os, signal, sys
from entrenar_otel.serving import ABTest

first, last, how = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
ab = ABTest("m@1", "m@2", 0.3, "accuracy", check_seconds=None)
for user in range(first, last):
    ab.record(user, user % 2)
print("recorded", flush=True)
if how == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
sys.stdin.readline()
"""


@pytest.fixture(autouse=True)
def unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ab_test, "_designs", {})


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[subprocess.Popen[str]]]:
    """Three that serve 1,000 users each, of which one is killed as soon as it has recorded."""
    monkeypatch.setenv("ENTRENAR_LAKE", str(tmp_path / "lake"))
    started = []
    for first, how in ((0, "killed"), (1000, "alive"), (2000, "alive")):
        command = [sys.executable, "-c", PROGRAM, str(first), str(first + 1000), how]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(process)
    try:
        for process in started:
            assert process.stdout is not None
            assert process.stdout.readline() == "recorded\n"
        yield started
    finally:
        for process in started:
            process.kill()
            process.communicate()


def test_counts_are_exact_when_a_server_is_killed(servers: list[subprocess.Popen[str]]) -> None:
    """Live, after kill -9, after the others have ended, and once more after the recovery."""
    assert servers[0].wait(100) == -signal.SIGKILL
    ab = ABTest("m@1", "m@2", 0.3, "accuracy")
    in_b = [ab.assign(user) == "B" for user in range(3000)]

    def check() -> None:
        result = ab.result()
        assert (result.b.users, result.a.users) == (sum(in_b), 3000 - sum(in_b))
        assert result.b.observations + result.a.observations == 3000
        odd = sum(user % 2 for user in range(3000) if in_b[user])
        assert round(result.b.mean * result.b.users) == odd

    check()
    for server in servers[1:]:
        server.communicate("end\n", timeout=300)
        assert server.returncode == 0
    check()
    lake = Lake(os.environ["ENTRENAR_LAKE"])
    lake.recover()
    check()
    assert lake.query("SELECT DISTINCT state FROM runs ORDER BY 1").column("state").to_pylist() == [
        "completed",
        "crashed",
    ]


def test_a_forked_worker_records_into_a_run_of_its_own(tmp_path: Path) -> None:
    """As a server does that loads the model first and forks its workers then, whatever recorded before."""
    ab = ABTest("m@1", "m@2", 0.5, "accuracy", lake=tmp_path / "lake", check_seconds=None)
    with Monitor("parent", lake=tmp_path / "lake", quiet=True) as monitor:
        ab.record("parent", 1)
        if not (pid := os.fork()):
            code = 1
            try:
                ab.record("child", 1)
                ab.close()
                code = 0
            finally:
                os._exit(code)
        assert os.waitpid(pid, 0)[1] == 0
        assert ab.result().a.observations + ab.result().b.observations == 2
        runs = monitor.lake.query("SELECT DISTINCT run_id FROM metrics WHERE metric = 'ab.accuracy'")
        assert len(runs) == 2
