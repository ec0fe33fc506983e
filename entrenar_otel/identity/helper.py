"""Helper: whether this process only helps one that records, as a data loader's worker does."""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from entrenar_otel.console import logger
from entrenar_otel.identity.launcher import rank_from, run_id_from

#: The mark of the process that records, for children to see (environment, so that spawn passes it on).
_PARENT = "ENTRENAR_PARENT"
#: Whether this process was forked, and multiprocessing's parent as it was known then: that of the process
#: which forked, unless multiprocessing has begun a child here since.
_is_forked = False
_known_parent: object = None
#: The process that has said that it is a helper.
_warned_pid = 0


@dataclass(frozen=True)
class Given:
    """What a program, or its launcher, said of its own identity; None where it said nothing."""

    run_id: str | None = None
    rank: int | None = None
    #: The same, of the environment alone.
    env_run_id: str | None = None
    env_rank: int | None = None

    @classmethod
    def find(
        cls, run_id: str | None = None, rank: int | None = None, environ: Mapping[str, str] = os.environ
    ) -> Given:
        """What is given as arguments, beside what the environment says."""
        return cls(run_id, rank, run_id_from(environ), _rank_in(environ))


def _rank_in(environ: Mapping[str, str]) -> int | None:
    has_one = any(environ.get(name) for name in ("RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK"))
    return rank_from(environ)[0] if has_one else None


@dataclass(frozen=True)
class Mark:
    """What a process that records leaves in the environment, so that its children know of it."""

    pid: int
    run_id: str
    rank: int
    given: Given

    @classmethod
    def read(cls, environ: Mapping[str, str] = os.environ) -> Mark | None:
        """The mark that was left here, or None."""
        try:
            mark = json.loads(environ.get(_PARENT, ""))
            given = Given(**mark["given"])
            return cls(int(mark["pid"]), str(mark["run_id"]), int(mark["rank"]), given)
        except (ValueError, KeyError, TypeError):
            return None

    def is_of_peer(self, given: Given) -> bool:
        """Whether this is no helper of that process: it has an id or a rank of its own.

        What the environment says counts where it says something else than to that process: under a
        launcher, a data loader's workers inherit the rank of the process that they help.
        """
        if given.run_id is not None:
            has_id = given.run_id != self.run_id
        else:
            has_id = given.env_run_id not in (None, self.given.env_run_id, self.run_id)
        if given.rank is not None:
            has_rank = given.rank != self.rank or self.given.rank is self.given.env_rank is None
        else:
            has_rank = given.env_rank not in (None, self.given.env_rank)
        return has_id or has_rank


def mark_recording(run_id: str, rank: int, given_rank: int | None = None) -> None:
    """Let children know that this process records."""
    mark = Mark(os.getpid(), run_id, rank, Given.find(run_id, given_rank))
    os.environ[_PARENT] = json.dumps(asdict(mark))


def unmark_recording() -> None:
    """This process records no more."""
    mark = Mark.read()
    if mark is not None and mark.pid == os.getpid():
        os.environ.pop(_PARENT, None)


def _after_fork() -> None:
    global _known_parent, _is_forked
    _known_parent, _is_forked = multiprocessing.parent_process(), True


os.register_at_fork(after_in_child=_after_fork)


def _helped_pid() -> int | None:
    """The process that made this one to help it, by a fork or by multiprocessing; None of a program."""
    parent = multiprocessing.parent_process()
    if parent is not None and parent is not _known_parent:
        return parent.pid  # also where a fork server is in between
    return os.getppid() if _is_forked else None


def helped(given: Given) -> Mark | None:
    """Whom this process helps, a data loader's worker say: the process that made it, and that records.

    A child with a run or a rank of its own is no helper but a peer (`torch.multiprocessing.spawn`, the
    trials of a sweep), and so are a program that was started anew, and whatever that one starts.
    """
    mark = Mark.read()
    if mark is None or mark.pid in (0, os.getpid()) or mark.pid != _helped_pid():
        return None
    return None if mark.is_of_peer(given) else mark


def say_helper(mark: Mark) -> None:
    """Say, once per process, that what it records is not kept."""
    global _warned_pid
    if _warned_pid != os.getpid():
        _warned_pid = os.getpid()
        logger.warning(
            "this process is a worker of process %d, which records run %s: a Monitor here records nothing. "
            "To record here as well, give it a run of its own (Monitor(run_id=…) or ENTRENAR_RUN_ID), or a "
            "rank (Monitor(rank=…) or RANK)",
            mark.pid,
            mark.run_id,
        )


def say_unheard() -> None:
    """Say so the first time that an inherited or copied Monitor is used."""
    global _warned_pid
    if _warned_pid != os.getpid():
        mark = Mark.read()
        if mark is not None and mark.pid != os.getpid():
            say_helper(mark)
        _warned_pid = os.getpid()
