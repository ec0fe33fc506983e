"""Identity: which run, rank and attempt this process is, and whether it is a worker of one."""

from __future__ import annotations

import json
import multiprocessing
import os
import secrets
import socket
from collections.abc import Mapping
from datetime import UTC, datetime

#: pid:rank of the process that records, for children to see (environment, so that spawn passes it on).
_PARENT = "ENTRENAR_PARENT"
_ADJECTIVES = ("amber", "brisk", "calm", "deft", "eager", "fair", "keen", "lucid", "quiet", "swift")
_forked_from_recorder = False


def new_run_id(now: datetime | None = None) -> str:
    """A new id that sorts by time and can be said aloud, such as `20261124-091502-keen-4f1a`."""
    stamp = (now or datetime.now(UTC)).strftime("%Y%m%d-%H%M%S")
    return f"{stamp}-{secrets.choice(_ADJECTIVES)}-{secrets.token_hex(3)}"


def run_id_from(environ: Mapping[str, str]) -> str | None:
    """The run id that a launcher gave to all ranks, or None."""
    if run_id := environ.get("ENTRENAR_RUN_ID"):
        return run_id
    if (elastic := environ.get("TORCHELASTIC_RUN_ID", "none")) not in ("", "none"):
        return elastic
    if job := environ.get("SLURM_JOB_ID"):
        return f"{job}.{environ.get('SLURM_STEP_ID', '0')}"
    return None


def rank_from(environ: Mapping[str, str]) -> tuple[int, int]:
    """Rank and world size: torchrun, Slurm, Open MPI; else 0 of 1."""
    for rank, size in (
        ("RANK", "WORLD_SIZE"),
        ("SLURM_PROCID", "SLURM_NTASKS"),
        ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ):
        try:
            mine = int(environ[rank])
            return mine, max(int(environ.get(size, "1")), mine + 1)
        except (KeyError, ValueError):
            continue
    return 0, 1


def is_disabled(environ: Mapping[str, str]) -> bool:
    """`ENTRENAR_DISABLED` and `OTEL_SDK_DISABLED` are the same switch."""
    return any(
        environ.get(name, "").strip().lower() in ("1", "true", "yes", "on")
        for name in ("ENTRENAR_DISABLED", "OTEL_SDK_DISABLED")
    )


def mark_recording(rank: int) -> None:
    """Let children know that this process records."""
    os.environ[_PARENT] = json.dumps({"pid": os.getpid(), "rank": rank})


def unmark_recording() -> None:
    """This process records no more."""
    if _marked()[0] == os.getpid():
        os.environ.pop(_PARENT, None)


def mark_forked() -> None:
    """This process was forked from one that records."""
    global _forked_from_recorder
    _forked_from_recorder = True


def _marked() -> tuple[int, int]:
    try:
        mark = json.loads(os.environ.get(_PARENT, ""))
        return int(mark["pid"]), int(mark["rank"])
    except (ValueError, KeyError, TypeError):
        return 0, 0


def is_worker(rank: int) -> bool:
    """Whether this is a forked or spawned helper (a data loader's) of a process that records.

    A child with a rank of its own is no helper but a peer (`torch.multiprocessing.spawn`), and so
    is a program that was started anew.
    """
    pid, parent_rank = _marked()
    if pid in (0, os.getpid()) or rank != parent_rank:
        return False
    return _forked_from_recorder or multiprocessing.parent_process() is not None


def process_started() -> datetime:
    """When this process was created, UTC, to a second; where the system does not say, now.

    Its date is the day of the attempt, whatever midnights it crosses.
    """
    import psutil  # 20 ms to import, and needed only where a run starts

    try:
        return datetime.fromtimestamp(psutil.Process().create_time(), UTC)
    except (psutil.Error, OSError, RuntimeError, ValueError):
        return datetime.now(UTC)


def new_process_name() -> str:
    """A name that no other process ever has: host, pid, 64 random bits."""
    host = "".join(c if c.isalnum() or c in "._" else "_" for c in socket.gethostname())[:64]
    return f"{host or 'host'}-{os.getpid()}-{os.urandom(8).hex()}"
