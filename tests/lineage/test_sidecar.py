"""Sidecar: what lies beside a checkpoint is read back as it was, or said to be none."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from entrenar_otel.errors import LineageError
from entrenar_otel.lineage.sidecar import Sidecar, path_beside

SIDECAR = Sidecar("digits", "1.0", "r1", f"00-{'a' * 32}-{'b' * 16}-01", "abc", epoch=2, step=40)


def test_beside_a_file_and_in_a_folder() -> None:
    assert SIDECAR.write("model.pt") == Path("model.pt.entrenar.json")
    assert Sidecar.read("model.pt") == SIDECAR
    Path("folder").mkdir()
    shutil.copy("model.pt.entrenar.json", "folder/entrenar.json")
    assert Sidecar.read("folder") == SIDECAR
    Path("hub.pt.entrenar.json").symlink_to("model.pt.entrenar.json")
    assert Sidecar.read(Path("hub.pt")) == SIDECAR
    assert Sidecar.read("other.pt") is None


def test_a_later_one_may_say_more() -> None:
    document = json.loads(SIDECAR.write("model.pt").read_text()) | {"format": 2, "loss": 0.5}
    path_beside("model.pt").write_text(json.dumps(document))
    read = Sidecar.read("model.pt")
    assert read is not None
    assert (read.model_id, read.format) == ("digits", 2)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "is no sidecar"),
        (b"[]", "is no sidecar"),
        (b"{}", "is no sidecar"),
        (b"\xff\xfe", "is no sidecar"),
        (b"[" * 60_000, "is no sidecar"),
        (b'{"model_id": 5, "version": "1", "run_id": "", "traceparent": "", "config_hash": ""}', "names no"),
        (b'{"model_id": "m", "version": "", "run_id": "", "traceparent": "", "config_hash": ""}', "names no"),
        (b" " * 70_000, "cannot be read: .*at most 65,536"),
    ],
)
def test_what_is_none(content: bytes, problem: str) -> None:
    path_beside("model.pt").write_bytes(content)
    with pytest.raises(LineageError, match=problem):
        Sidecar.read("model.pt")


def test_a_folder_of_its_name() -> None:
    path_beside("model.pt").mkdir()
    with pytest.raises(LineageError, match=r"cannot be read: .*expected a file"):
        Sidecar.read("model.pt")
