"""Sender: whose data a resource says that it is."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

from entrenar_otel.otel.otlp import names
from entrenar_otel.recording.header import is_process_name
from entrenar_otel.sink.decoding.values import text, whole

#: Of a run's id, and of all other names that a resource has.
MAX_ID = 1024
_MAX_32 = (1 << 31) - 1
#: As our processes are named; what others say of theirs is hashed.
_PLAIN = re.compile(r"[A-Za-z0-9_.-]{1,160}")


class Process(NamedTuple):
    """The identity of a process that records a run, as it says itself."""

    run_id: str
    rank: int
    #: As it stands in the names of files.
    process: str


@dataclass(frozen=True)
class Sender:
    """A resource: a process of a run, or a foreign client, which has no run id."""

    process: Process | None
    #: Of the process; 0 where it does not know yet.
    attempt: int
    #: When the process began, if it says so.
    created: datetime | None
    resource: Mapping[str, Any] = field(repr=False)
    #: What is wrong with it, if it cannot be stored.
    problem: str = ""

    @classmethod
    def of(cls, resource: Mapping[str, Any]) -> Sender:
        """The sender that has these attributes of a resource."""
        run_id, rank = resource.get("training.run.id"), resource.get("training.process.rank", 0)
        created = time_of(resource.get("process.creation.time"))
        attempt = whole(resource.get("training.run.attempt"), _MAX_32) or 0
        if run_id is None:
            return cls(None, 0, created, resource)
        problem = ""
        if not text(run_id, MAX_ID):
            problem = f"training.run.id is not text of 1 to {MAX_ID:,} characters"
        elif whole(rank, _MAX_32) is None:
            problem = "training.process.rank is not a whole number from 0"
        if problem:
            return cls(None, 0, created, resource, problem)
        name = text(resource.get(names.PROCESS_ID), MAX_ID) or text(
            resource.get("service.instance.id"), MAX_ID
        )
        return cls(Process(run_id, rank, file_stem(name)), attempt, created, resource)

    @property
    def foreign_id(self) -> str:
        """`service.name/service.instance.id`, which stands for the run of a foreign client."""
        service = text(self.resource.get("service.name"), MAX_ID) or "unknown_service"
        instance = text(self.resource.get("service.instance.id"), MAX_ID)
        return f"{service}/{instance}" if instance else service


def file_stem(name: str) -> str:
    """A process's name as a part of file names: as it is, or its hash."""
    if _PLAIN.fullmatch(name) and is_process_name(name) and not name.startswith("."):
        return name
    return f"process-{hashlib.sha256(name.encode()).hexdigest()[:24]}"


def time_of(value: Any) -> datetime | None:
    """A moment in ISO 8601, as UTC; None of anything else."""
    try:
        moment = datetime.fromisoformat(value)
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (TypeError, ValueError, OverflowError):
        return None
