"""The native core is built by whatever compiler is there, at once or not at all, and loaded where it fits."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import entrenar_native
import pytest

ROOT = Path(__file__).parents[2]
NEEDS_COMPILER = "NOT TESTED HERE: no C compiler, hence no native core"


def build_hook() -> ModuleType:
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.delenv("ENTRENAR_NATIVE", raising=False)
    return build_hook()


def state_in(folder: Path, **environment: str) -> str:
    """What a process says that imports `entrenar_native` from this folder."""
    program = "import entrenar_native as native; print(native.core is not None, native.state())"
    env = {**os.environ, "ENTRENAR_NATIVE": "", "PYTHONPATH": str(folder), **environment}
    done = subprocess.run(
        [sys.executable, "-c", program], env=env, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of the package without its core."""
    source = Path(entrenar_native.__file__).parent
    shutil.copytree(
        source, tmp_path / "entrenar_native", ignore=shutil.ignore_patterns("*.so", "__pycache__")
    )
    return tmp_path


@pytest.mark.skipif(shutil.which("cc") is None, reason=NEEDS_COMPILER)
def test_the_sources_compile_without_a_warning_and_load(hook: ModuleType, package: Path) -> None:
    core = package / "entrenar_native" / hook.CORE.name
    assert hook.build(core, hook.WARNINGS) == core
    assert state_in(package) == f"True native core in use: {core}"
    built = core.stat().st_ino
    hook.build(core, hook.WARNINGS)
    assert core.stat().st_ino == built, "built again although nothing changed"
    hook.build(core)
    assert core.stat().st_mtime_ns != built, "not built again although the flags are others"
    assert [path.name for path in core.parent.glob("*.tmp")] == []


@pytest.mark.skipif(shutil.which("cc") is None, reason=NEEDS_COMPILER)
def test_a_core_of_another_version_is_not_used(hook: ModuleType, package: Path) -> None:
    hook.build(package / "entrenar_native" / hook.CORE.name)
    init = package / "entrenar_native" / "__init__.py"
    text = init.read_text(encoding="utf-8")
    init.write_text(text.replace(f"\nINTERFACE = {entrenar_native.INTERFACE}\n", "\nINTERFACE = 0\n"))
    assert state_in(package).startswith(
        "False pure Python: native core built from another version: install again"
    )


def test_what_does_not_compile_leaves_nothing(
    hook: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a compiler that fails nor none at all leaves a file, and each is named."""
    monkeypatch.setenv("CC", "false")
    with pytest.raises(hook.NotBuilt, match="false failed"):
        hook.build(tmp_path / "core.so")
    monkeypatch.setenv("ENTRENAR_NATIVE", "0")
    with pytest.raises(hook.NotBuilt, match="ENTRENAR_NATIVE=0"):
        hook.build(tmp_path / "core.so")
    monkeypatch.delenv("ENTRENAR_NATIVE")
    monkeypatch.delenv("CC")
    monkeypatch.setattr(hook.shutil, "which", lambda _: None)
    with pytest.raises(hook.NotBuilt, match=r"no C compiler .*apt-get install gcc"):
        hook.build(tmp_path / "core.so")
    monkeypatch.undo()
    assert list(tmp_path.iterdir()) == []


def test_without_a_core_it_says_why(package: Path) -> None:
    assert state_in(package).startswith("False pure Python: native core not built: there was no C compiler")
    (package / "entrenar_native" / "_core.abi3.so").write_bytes(b"no library")
    assert state_in(package).startswith("False pure Python: native core not loaded: ")
    assert (
        state_in(package, ENTRENAR_NATIVE=" off ")
        == "False pure Python: native core switched off by ENTRENAR_NATIVE=off"
    )


@pytest.mark.skipif(shutil.which("cc") is None, reason=NEEDS_COMPILER)
def test_a_core_that_is_older_than_its_sources_is_not_used(hook: ModuleType, package: Path) -> None:
    """After a `git pull` what Python calls may not be in it yet; built again it is, of the same sources."""
    core, sources = hook.build(package / "entrenar_native" / hook.CORE.name), package / "src"
    shutil.copytree(hook.NATIVE / "src", sources)
    later = core.stat().st_mtime + 9
    os.utime(sources / "core.h", (later, later))
    assert state_in(package).startswith("False pure Python: native core older than its sources: python hatch")
    os.utime(core, (later, later))
    assert state_in(package) == f"True native core in use: {core}"
    os.utime(core, (0, 0))
    hook.build(core)
    assert core.stat().st_mtime > 0
