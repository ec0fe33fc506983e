"""The wheel: what is in it, and that it works where nothing but its dependencies is."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

import entrenar_otel

ROOT = Path(entrenar_otel.__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(folder), str(ROOT)]
    if importlib.util.find_spec("hatchling"):
        command.append("--no-build-isolation")
    subprocess.run(command, check=True, capture_output=True, timeout=200)
    (found,) = folder.glob("*.whl")
    return found


def test_the_wheel_has_both_packages_and_nothing_else(wheel: Path) -> None:
    """Every module of both, py.typed for type checkers, the console script; no tests."""
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        info = next(name for name in names if name.endswith("entry_points.txt"))
        scripts = archive.read(info).decode()
    files = {name for name in names if ".dist-info/" not in name}
    wanted = {
        path.relative_to(base).as_posix()
        for base, package in ((ROOT, "entrenar_otel"), (ROOT / "processors", "entrenar_processors"))
        for path in (base / package).rglob("*")
        if path.suffix == ".py" or path.name == "py.typed"
    }
    assert files == wanted
    assert {"entrenar_otel/py.typed", "entrenar_processors/py.typed"} <= files
    assert "entrenar-otel = entrenar_otel.cli.main:main" in scripts
    assert f"-{entrenar_otel.__version__}-py3-none-any" in wheel.name


def test_the_wheel_works_in_an_empty_environment(wheel: Path, tmp_path: Path) -> None:
    """Installed beside nothing but its dependencies, it records a run and the command shows it."""
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True, timeout=100)
    python = str(venv / "bin" / "python")
    install = [sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps", "--no-index"]
    subprocess.run([*install, str(wheel)], check=True, capture_output=True, timeout=100)
    env = os.environ | {"PYTHONPATH": sysconfig.get_path("purelib")}

    def run(*command: str) -> str:
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=100, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return done.stdout

    program = (
        "import entrenar_otel, entrenar_processors\n"
        "with entrenar_otel.Monitor('r', quiet=True) as m: m.log(loss=0.5)\n"
        "print(entrenar_otel.__file__, entrenar_processors.__file__)"
    )
    assert all(path.startswith(str(venv)) for path in run(python, "-c", program).split())
    command = str(venv / "bin" / "entrenar-otel")
    assert run(command, "--version") == f"entrenar-otel {entrenar_otel.__version__}\n"
    assert (
        run(command, "query", "-f", "csv", "SELECT metric, value FROM metrics") == "metric,value\nloss,0.5\n"
    )
