"""Launchers: run id, rank and world size from what they say, and where they say nothing of a run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from entrenar_otel import Monitor
from entrenar_otel.identity.launcher import derived_run_id, rank_from, run_id_from
from entrenar_otel.lake import Lake

STEP = {"SLURM_JOB_ID": "12", "SLURM_STEP_ID": "3", "SLURM_PROCID": "1", "SLURM_NTASKS": "2"}


@pytest.mark.parametrize(
    ("environ", "run_id"),
    [
        ({}, None),
        ({"ENTRENAR_RUN_ID": "mine", "TORCHELASTIC_RUN_ID": "t", **STEP}, "mine"),
        ({"TORCHELASTIC_RUN_ID": "t", **STEP}, "t"),
        ({"TORCHELASTIC_RUN_ID": "none", **STEP}, "12.3"),
        ({"ENTRENAR_RUN_ID": "", "TORCHELASTIC_RUN_ID": ""}, None),
        # by hand in a job: a batch script, an interactive allocation, a shell within a step
        ({"SLURM_JOB_ID": "12", "SLURM_NTASKS": "4"}, None),
        ({**STEP, "SLURM_PTY_PORT": "45000"}, None),
        ({**STEP, "SLURM_STEP_ID": "4294967291"}, None),  # the batch script's own step
        ({**STEP, "SLURM_STEP_ID": "4294967290"}, None),  # of the shell that salloc starts
        ({"PMIX_NAMESPACE": "prterun-host-123@1"}, "mpi-771d912a80b6"),
    ],
)
def test_run_id_from_a_launcher(environ: dict[str, str], run_id: str | None) -> None:
    """Ours before torchrun's before Slurm's; torchrun's default `none` is no id."""
    assert run_id_from(environ) == run_id


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, (0, 1)),
        ({"RANK": "3", "WORLD_SIZE": "8", **STEP}, (3, 8)),
        (STEP, (1, 2)),
        ({"SLURM_JOB_ID": "12", "SLURM_PROCID": "0", "SLURM_NTASKS": "4"}, (0, 1)),
        ({**STEP, "SLURM_STEP_ID": "4294967290"}, (0, 1)),
        ({"OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_SIZE": "4"}, (0, 4)),
        ({"RANK": "five", **STEP}, (1, 2)),
        ({"RANK": "3"}, (3, 4)),
        ({"RANK": "3", "WORLD_SIZE": "1"}, (3, 4)),
    ],
)
def test_rank_from_a_launcher(environ: dict[str, str], expected: tuple[int, int]) -> None:
    """The first launcher that says something sensible; a world always holds its rank."""
    assert rank_from(environ) == expected


def test_ranks_of_one_agent_share_an_id() -> None:
    """Real children of one parent; another port is another start, and several nodes share nothing."""
    code = (
        "import json, os; from entrenar_otel.identity.launcher import derived_run_id as run_id; "
        "print(json.dumps([run_id({**os.environ, 'MASTER_PORT': port}) for port in ('1', '1', '2')]))"
    )
    ranks = []
    for rank in range(2):
        environ = {**os.environ, "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
        done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, check=True)
        ranks.append(json.loads(done.stdout))
    (first, again, other), second = ranks
    assert second == [first, again, other]
    assert first == again != other
    assert "-ranks-" in first
    several = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4"}
    assert derived_run_id(several) is None
    assert derived_run_id({"RANK": "0", "WORLD_SIZE": "2"}) is None
    assert derived_run_id({}) is None


def test_the_next_run_of_a_process_has_an_id_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Folds, or an evaluation beside the training: never attempts of one run, and none is superseded."""
    for name, value in {"TORCHELASTIC_RUN_ID": "fold", "RANK": "0", "WORLD_SIZE": "1"}.items():
        monkeypatch.setenv(name, value)
    train, evaluation = (Monitor(quiet=True, lake="lake").start() for _ in range(2))
    train.log(a=1)
    evaluation.log(a=1)
    assert train.enabled
    train.close()
    evaluation.close()
    Monitor("fold", quiet=True, lake="lake").start().close()  # by name: another attempt
    found = sorted((one.run_id, one.attempt) for one in Lake(Path("lake")).runs())
    assert found == [("fold", 1), ("fold", 2), ("fold-2", 1)]
