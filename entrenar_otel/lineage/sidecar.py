"""Sidecar: a small file beside a checkpoint that says which version of a model it is, and of which run."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from entrenar_otel.errors import LineageError
from entrenar_otel.recording.plain_file import read_plain, write_whole

#: Appended to the name of a checkpoint; of one that is a folder, also the name of the file in it.
SUFFIX = ".entrenar.json"
FORMAT = 1
_MAX_BYTES = 64 << 10


@dataclass(frozen=True)
class Sidecar:
    """What a checkpoint is: `traceparent` is that of its run's span, in W3C form."""

    model_id: str
    version: str
    run_id: str
    traceparent: str | None
    config_hash: str
    #: When it was written, as ISO 8601.
    created_at: str | None = None
    epoch: int | None = None
    step: int | None = None
    format: int = FORMAT

    def write(self, checkpoint: str | os.PathLike[str]) -> Path:
        """Write it beside the checkpoint, whole or not at all. Raises OSError."""
        path = path_beside(checkpoint)
        write_whole(path, (json.dumps(asdict(self), indent=1) + "\n").encode(), mode=0o644)
        return path

    @classmethod
    def read(cls, checkpoint: str | os.PathLike[str]) -> Sidecar | None:
        """That of a checkpoint; None where it has none. Raises LineageError where it is no sidecar."""
        within = Path(checkpoint, SUFFIX.removeprefix("."))
        for path in (path_beside(checkpoint), within) if Path(checkpoint).name else (within,):
            try:
                text = read_plain(os.path.realpath(path), _MAX_BYTES)  # hubs keep links
            except (FileNotFoundError, NotADirectoryError):
                continue
            except (OSError, ValueError) as error:
                raise LineageError(f"{path} cannot be read: {error}") from None
            return cls._of(path, text)
        return None

    @classmethod
    def _of(cls, path: Path, text: bytes) -> Sidecar:
        try:
            document: dict[str, Any] = json.loads(text)
            known = {field.name: document[field.name] for field in fields(cls) if field.name in document}
            made = cls(**known)
        except (ValueError, TypeError, RecursionError):
            raise LineageError(
                f"{path} is no sidecar of a checkpoint: expected JSON of `save_sidecar`"
            ) from None
        texts = [made.model_id, made.version, made.run_id, made.config_hash]
        texts += [made.traceparent or "", made.created_at or ""]
        if not all(isinstance(text, str) for text in texts) or not (made.model_id and made.version):
            raise LineageError(f"{path} names no version of a model: expected model_id and version as text")
        return made


def path_beside(checkpoint: str | os.PathLike[str]) -> Path:
    """Where the sidecar of a checkpoint lies.

    >>> path_beside("models/digits.pt").name
    'digits.pt.entrenar.json'
    """
    path = Path(checkpoint)
    return path.with_name(path.name + SUFFIX)
