"""The wheel: what is in it, and that it works where nothing but its dependencies is."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

import entrenar_otel

ROOT = Path(entrenar_otel.__file__).parents[1]
PACKAGES = (
    (ROOT, "entrenar_otel"),
    (ROOT / "processors", "entrenar_processors"),
    (ROOT / "native", "entrenar_native"),
)
NATIVE = "entrenar_native/_core.abi3.so"


def platform_tag() -> str:
    return sysconfig.get_platform().replace("-", "_").replace(".", "_")


def build_wheel(folder: Path, settings: dict[str, str]) -> tuple[Path, str]:
    """The wheel of the checkout, and what building it said."""
    command = [sys.executable, "-m", "pip", "wheel", "-v", "--no-deps", "-w", str(folder), str(ROOT)]
    if importlib.util.find_spec("hatchling"):
        command.append("--no-build-isolation")
    done = subprocess.run(
        command, env=os.environ | settings, check=True, capture_output=True, text=True, timeout=200
    )
    (found,) = folder.glob("*.whl")
    return found, done.stdout + done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(tmp_path_factory.mktemp("wheel"), {"ENTRENAR_NATIVE": ""})[0]


def test_the_wheel_has_the_packages_and_nothing_else(wheel: Path) -> None:
    """Every module of each, py.typed, the page's files, the native core, the console script; no tests."""
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        info = next(name for name in names if name.endswith("entry_points.txt"))
        scripts = archive.read(info).decode()
    files = {name for name in names if ".dist-info/" not in name}
    wanted = {
        path.relative_to(base).as_posix()
        for base, package in PACKAGES
        for path in (base / package).rglob("*")
        if path.suffix in (".py", ".pyi") or path.name == "py.typed" or path.parent.name == "static"
    }
    assert files - {NATIVE} == wanted
    assert {f"{package}/py.typed" for _, package in PACKAGES} <= files
    assert "entrenar-otel = entrenar_otel.cli.main:main" in scripts
    tag = f"cp311-abi3-{platform_tag()}" if NATIVE in files else "py3-none-any"
    assert wheel.name == f"entrenar_otel-{entrenar_otel.__version__}-{tag}.whl"
    assert (NATIVE in files) == (shutil.which("cc") is not None), (
        "no native core although there is a C compiler"
    )


def test_by_choice_the_wheel_is_a_pure_one(tmp_path: Path) -> None:
    """Whoever builds it with ENTRENAR_NATIVE=0 is told, and has no native core."""
    pure, said = build_wheel(tmp_path, {"ENTRENAR_NATIVE": "0"})
    assert pure.name == f"entrenar_otel-{entrenar_otel.__version__}-py3-none-any.whl"
    assert "without the native core, in pure Python: ENTRENAR_NATIVE=0" in said
    with zipfile.ZipFile(pure) as archive:
        assert NATIVE not in archive.namelist()


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
        "import entrenar_native, entrenar_otel, entrenar_processors\n"
        "with entrenar_otel.Monitor('r', quiet=True) as m: m.log(loss=0.5)\n"
        "print(entrenar_otel.__file__, entrenar_processors.__file__, entrenar_native.__file__)\n"
        "print(entrenar_native.core.__file__ if entrenar_native.core else entrenar_native.__file__)"
    )
    assert all(path.startswith(str(venv)) for path in run(python, "-c", program).split())
    command = str(venv / "bin" / "entrenar-otel")
    assert run(command, "--version") == f"entrenar-otel {entrenar_otel.__version__}\n"
    assert (
        run(command, "query", "-f", "csv", "SELECT metric, value FROM metrics") == "metric,value\nloss,0.5\n"
    )
