"""Incident: what is written of one into the lake, and how it waits in the live folder until that is done.

A lake may be away when something goes wrong. So what was known is first a file of the live folder,
`PROCESS-000003.incident`, which goes once the incident is complete; of a dead process recovery brings it in.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from entrenar_processors.plain import plain

from entrenar_otel.errors import QueryError
from entrenar_otel.lake.records.dead import Dead
from entrenar_otel.lake.records.runs import find_records
from entrenar_otel.lake.sql.limits import Limits
from entrenar_otel.lake.sql.query import run_query
from entrenar_otel.lake.store.catalog import run_folder
from entrenar_otel.lake.store.skipped import name_skipped
from entrenar_otel.lake.store.storage import Storage
from entrenar_otel.recording.header import is_day
from entrenar_otel.recording.plain_file import read_plain, write_whole

#: The documents of an incident: what was found, the settings in force, where and with what the run was.
DOCUMENTS = ("alert", "config", "environment")
#: The samples from around it; and what they look like, where matplotlib is installed.
WINDOW, PICTURE = "window.parquet", "window.png"
#: The post-mortem, of an incident that stopped its run.
REPORT = "report.md"
#: Where each thread was, of a training that stalled.
STACKS = "stacks.txt"
FORMAT = 1
_MAX_BYTES = 16 << 20
_NAME = re.compile(r"[A-Za-z0-9_.~%-]+")


@dataclass(frozen=True)
class Facts:
    """All that is known of an incident but the samples around it, which are in the lake and in segments."""

    name: str
    day: str
    run_id: str
    attempt: int
    rank: int
    process: str
    documents: Mapping[str, Any]
    #: From when to when samples belong to it.
    times: Sequence[tuple[datetime, datetime]]
    #: Texts that only this kind of incident has, by file name.
    texts: Mapping[str, str] = field(default_factory=dict)

    @property
    def folder(self) -> str:
        """Where it goes, in the lake."""
        return f"{run_folder('incidents', self.day, self.run_id)}/{self.name}"

    def keep(self, path: Path, lake: str, origin: Mapping[str, Any]) -> None:
        """Write it down in the live folder, whole or not at all. Raises OSError."""
        document = {
            "format": FORMAT,
            "lake": lake,
            "origin": origin,
            "name": self.name,
            "day": self.day,
            "run_id": self.run_id,
            "attempt": self.attempt,
            "rank": self.rank,
            "process": self.process,
            "documents": plain(self.documents),
            "times": [[start.isoformat(), end.isoformat()] for start, end in self.times],
            "texts": dict(self.texts),
        }
        write_whole(path, json.dumps(document, allow_nan=False).encode(), mode=0o600)

    def write_document(self, storage: Storage, name: str) -> None:
        """Put one of DOCUMENTS into the lake."""
        text = json.dumps(plain(self.documents[name]), indent=2, allow_nan=False)
        storage.write_bytes(f"{self.folder}/{name}.json", text.encode())

    def write_texts(self, storage: Storage) -> None:
        """Put what only this kind of incident has into the lake."""
        for name, text in self.texts.items():
            storage.write_bytes(f"{self.folder}/{name}", text.encode("utf-8", "backslashreplace"))

    def write_window(self, storage: Storage, live: Path) -> None:
        """Put all metrics of the run from around the incident into the lake, as far as they are there now."""
        within = " OR ".join(["timestamp >= ? AND timestamp < ?"] * len(self.times))
        table = run_query(
            storage,
            live,
            f"SELECT * FROM metrics WHERE {within} ORDER BY timestamp, rank, seq",
            [moment for pair in self.times for moment in pair],
            self.run_id,
            Limits.of(None, None, None),
        )
        storage.write(f"{self.folder}/{WINDOW}", table.schema, table.to_batches())


def bring_in(
    storage: Storage, live: Path, dead: Dead, goes_here: Callable[[Mapping[str, Any]], bool]
) -> None:
    """Write the incidents that dead processes have left in the live folder; after their segments."""
    for path in sorted(live.glob("*.incident")):
        try:
            document = json.loads(read_plain(path, _MAX_BYTES))
            facts = _facts(path, document)
        except FileNotFoundError:  # its run, or another recovery, has brought it in
            continue
        except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
            name_skipped(path, f"{path} is not an incident of ours: it is left alone ({error})")
            continue
        if not goes_here(document) or not dead.has_written(path, document):
            continue
        for record in find_records(storage, facts.run_id) if facts.attempt == 0 else ():
            if record.process == facts.process:  # the lake had not said which attempt it is
                facts.documents["environment"]["attempt"] = record.attempt
        for name in DOCUMENTS:
            facts.write_document(storage, name)
        facts.write_texts(storage)
        try:
            facts.write_window(storage, live)
        except QueryError as error:
            name_skipped(path, f"{path} is not complete in the lake: its window cannot be read ({error})")
            continue
        path.unlink(missing_ok=True)


def _facts(path: Path, document: Any) -> Facts:
    """What a file says, checked: it may have been written by anybody. Raises ValueError and its like."""
    if document["format"] != FORMAT:
        raise ValueError(f"its format is {document['format']!r}")
    facts = Facts(
        name=document["name"],
        day=document["day"],
        run_id=document["run_id"],
        attempt=int(document["attempt"]),
        rank=int(document["rank"]),
        process=document["process"],
        documents={name: dict(document["documents"][name]) for name in DOCUMENTS},
        times=[(_moment(start), _moment(end)) for start, end in document["times"]],
        texts={name: str(text) for name, text in dict(document.get("texts", {})).items() if name == STACKS},
    )
    texts = (facts.name, facts.day, facts.run_id, facts.process, document["lake"])
    if not all(isinstance(text, str) and text for text in texts) or not facts.times:
        raise ValueError("it lacks something")
    if path.stem.rpartition("-")[0] != facts.process or not facts.name.endswith(f"-{facts.process}"):
        raise ValueError("its name is another process's")
    if not _NAME.fullmatch(facts.name) or not is_day(facts.day):
        raise ValueError("it leads elsewhere")
    return facts


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
