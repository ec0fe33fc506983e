"""Place: the folders of one round, and the one file into which every process says what it found."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from entrenar_otel.lake import Lake


class Place:
    """`lake` may be a mount that hangs; all else is on the local disk."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.lake, self.live = root / "lake", root / "live"
        self.acks, self.stop, self.pruned = root / "acks", root / "stop", root / "pruned"
        self.offset = root / "offset"  # of libfaketime
        self._found = root / "found.jsonl"

    def make(self) -> None:
        for folder in (self.lake, self.live, self.acks, self.stop, self.pruned):
            folder.mkdir(parents=True)
        self.offset.write_text("+0\n")
        self._found.touch()

    def open_lake(self) -> Lake:
        return Lake(self.lake, self.live)

    def tell(self, what: str, number: int = 1, text: str = "") -> None:
        """Count something, whole or not at all; with `text` it is shown."""
        line = json.dumps({"what": what, "number": number, "text": text}) + "\n"
        fd = os.open(self._found, os.O_WRONLY | os.O_APPEND)
        try:
            os.write(fd, line.encode())
        finally:
            os.close(fd)

    def told(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._found.read_text().splitlines()]
