"""Launcher: the run id, rank and world size that torchrun, DeepSpeed, Slurm or MPI gave to a process.

An id is a launcher's only where it started the ranks of one training: a Slurm job in which somebody trains
twice by hand is not one run.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from datetime import UTC, datetime

#: SLURM_MAX_NORMAL_STEP_ID is the number before it.
_OWN_STEPS = 0xFFFFFFF0


def run_id_from(environ: Mapping[str, str]) -> str | None:
    """The run id that all ranks share: `ENTRENAR_RUN_ID`, or their launcher's; None where there is none."""
    if run_id := environ.get("ENTRENAR_RUN_ID"):
        return run_id
    if (elastic := environ.get("TORCHELASTIC_RUN_ID", "none")) not in ("", "none"):
        return elastic
    if _is_slurm_step(environ):
        return f"{environ['SLURM_JOB_ID']}.{environ['SLURM_STEP_ID']}"
    if name := environ.get("PMIX_NAMESPACE"):  # Open MPI
        return f"mpi-{_digest(name)}"
    return None


def rank_from(environ: Mapping[str, str]) -> tuple[int, int]:
    """Rank and world size: torchrun, Slurm, Open MPI; else 0 of 1."""
    for rank, size in (
        ("RANK", "WORLD_SIZE"),
        *([("SLURM_PROCID", "SLURM_NTASKS")] if _is_slurm_step(environ) else []),
        ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ):
        try:
            mine = int(environ[rank])
            return mine, max(int(environ.get(size, "1")), mine + 1)
        except (KeyError, ValueError):
            continue
    return 0, 1


def is_first_on_host(environ: Mapping[str, str], rank: int) -> bool:
    """Whether this rank speaks for its host, which others of its run may share.

    By the rank within the host that launchers give (torchrun, DeepSpeed, Slurm, Open MPI); without one, the
    first rank of all is the only one of which that is known.

    >>> is_first_on_host({"LOCAL_RANK": "0"}, 8), is_first_on_host({"LOCAL_RANK": "1"}, 9)
    (True, False)
    """
    slurm = ["SLURM_LOCALID"] if _is_slurm_step(environ) else []
    for name in ("LOCAL_RANK", *slurm, "OMPI_COMM_WORLD_LOCAL_RANK"):
        try:
            return int(environ[name]) == 0
        except (KeyError, ValueError):
            continue
    return rank == 0


def _is_slurm_step(environ: Mapping[str, str]) -> bool:
    """Whether `srun` started this program as a task: no batch script, and no shell to work in."""
    step = environ.get("SLURM_STEP_ID", "")
    # Slurm's own steps have the last numbers there are: a batch script, the shell of salloc
    is_step = bool(environ.get("SLURM_JOB_ID") and step) and not (
        step.isdecimal() and int(step) >= _OWN_STEPS
    )
    return is_step and "SLURM_PTY_PORT" not in environ


def derived_run_id(environ: Mapping[str, str]) -> str | None:
    """An id of ranks that one process of this host started, as torchrun and DeepSpeed do on a single node.

    Their parent, when it started, and their port tell this start from any other. It is the id of the ranks
    themselves: what they start has another parent.
    """
    world = environ.get("WORLD_SIZE", "")
    local = environ.get("LOCAL_WORLD_SIZE") or environ.get("LOCAL_SIZE") or world
    if "LOCAL_RANK" not in environ or "RANK" not in environ or local != world:
        return None
    import psutil  # 20 ms to import, and needed only here

    try:
        agent = psutil.Process(os.getppid())
        started = agent.create_time()
    except (psutil.Error, OSError, ValueError):
        return None
    text = f"{agent.pid} {started} {environ.get('MASTER_ADDR')} {environ.get('MASTER_PORT')}"
    stamp = datetime.fromtimestamp(started, UTC).strftime("%Y%m%d-%H%M%S")
    return f"{stamp}-ranks-{_digest(text)[:6]}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:12]
