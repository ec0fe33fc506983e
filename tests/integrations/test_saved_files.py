"""Which checkpoints are new."""

from __future__ import annotations

import os
from pathlib import Path

from entrenar_otel.integrations.saved_files import SavedByTemplates, SavedFiles, has_sidecar, matching


def test_a_file_is_new_when_it_is_written_and_when_it_is_written_anew() -> None:
    saved, file = SavedFiles(), Path("last.ckpt")
    assert saved.new([file]) == []
    file.write_text("1")
    assert saved.new([file, file]) == ["last.ckpt"]
    assert saved.new(["last.ckpt"]) == []
    os.utime(file, ns=(1, 1))
    assert saved.new([file]) == ["last.ckpt"]


def test_an_object_store_is_believed_once() -> None:
    saved = SavedFiles()
    assert saved.new(["s3://models/a.ckpt"]) == ["s3://models/a.ckpt"]
    assert saved.new(["s3://models/a.ckpt"]) == []


def test_names_of_a_template_oldest_first() -> None:
    folder = Path("run[1]")
    folder.mkdir()
    for age, name in ((3, "model-10.keras"), (1, "model-09.keras"), (2, "other.keras")):
        (folder / name).touch()
        os.utime(folder / name, ns=(age, age))
    assert matching(folder / "model-{epoch:02d}.keras") == ["run[1]/model-09.keras", "run[1]/model-10.keras"]
    assert matching("run[1]/other.keras") == ["run[1]/other.keras"]
    assert matching("nowhere/{epoch}.keras") == []


def test_of_templates_only_what_is_written_since() -> None:
    Path("model-1.keras").touch()
    saved = SavedByTemplates(["model-{epoch}.keras", "best.keras"])
    assert saved.new() == []
    Path("model-2.keras").touch()
    Path("best.keras").touch()
    assert saved.new() == ["model-2.keras", "best.keras"]
    assert saved.new() == []


def test_sidecars_beside_a_file_and_in_a_folder() -> None:
    Path("model.ckpt.entrenar.json").touch()
    Path("sharded").mkdir()
    assert has_sidecar("model.ckpt")
    assert not has_sidecar("sharded")
    Path("sharded/entrenar.json").touch()
    assert has_sidecar("sharded")
    assert not has_sidecar("s3://models/a.ckpt")
