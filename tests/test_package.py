"""The package as a whole: its public names, its import direction, its weight."""

from __future__ import annotations

import ast
import importlib
import itertools
import re
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import entrenar_processors
import pytest

import entrenar_otel

ROOT = Path(entrenar_otel.__file__).parents[1]


def modules(package: str, folder: Path) -> Iterator[tuple[str, ast.Module]]:
    for path in sorted((folder / package).rglob("*.py")):
        parts = path.relative_to(folder / package).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        yield name, ast.parse(path.read_text(encoding="utf-8"))


def is_module(name: str) -> bool:
    """Whether this dotted name is one of our files or folders."""
    path = ROOT.joinpath(*name.split("."))
    return path.is_dir() or path.with_suffix(".py").is_file()


def imports(tree: ast.AST, lazily: bool = False) -> Iterator[tuple[str, bool]]:
    """What is imported, as dotted names, and whether within a function; not what only types need."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        if isinstance(node, ast.Import):
            yield from ((alias.name, lazily) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            module = node.module or ""
            names = {f"{module}.{alias.name}" for alias in node.names}
            yield from ((name if is_module(name) else module, lazily) for name in sorted(names))
        yield from imports(node, lazily or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def test_public_names() -> None:
    """`__all__` is what is public, at most 20, and everything in it has a docstring."""
    public = {
        name
        for name, value in vars(entrenar_otel).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    }
    assert public <= set(entrenar_otel.__all__)
    assert len(entrenar_otel.__all__) <= 20
    assert list(entrenar_otel.__all__) == sorted(entrenar_otel.__all__)
    for name in entrenar_otel.__all__:
        assert getattr(entrenar_otel, name).__doc__, name


@pytest.mark.parametrize(
    "package", [entrenar_otel, entrenar_processors], ids=lambda package: package.__name__
)
def test_names_are_imported_when_they_are_asked_for(package: types.ModuleType) -> None:
    """Those that type checkers and editors see, each the same object; a command loads none of them."""
    tree = ast.parse(Path(package.__file__ or "").read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    seen = {
        alias.name: node.module or ""
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert sorted(seen) == sorted(package.__all__)
    assert set(dir(package)) >= {*seen, "__doc__"}
    for name, module in seen.items():
        assert getattr(package, name) is getattr(importlib.import_module(module), name), name
        assert name in vars(package)  # the second time it costs nothing
    with pytest.raises(AttributeError, match=f"module '{package.__name__}' has no attribute 'nothing'"):
        _ = package.nothing
    program = f"import sys, {package.__name__}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not {*seen.values(), "numpy"}.intersection(done.stdout.split())


def test_imports_go_one_way() -> None:
    """The contracts of pyproject.toml hold: layers by folder, no import cycles."""
    linter = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    done = subprocess.run(linter, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_nothing_imports_the_package_root() -> None:
    """It imports everything: whoever imports it is part of a cycle, which import-linter does not see."""
    for name, tree in modules("entrenar_otel", ROOT):
        assert "entrenar_otel" not in {target for target, _ in imports(tree)}, name


def test_the_import_check_sees_what_it_should() -> None:
    """Every form of import is found, within functions as lazy, and types are left out."""
    source = """
import duckdb, entrenar_otel.lake
from entrenar_otel import lake, Monitor
from entrenar_otel.lake import Lake, prune
if TYPE_CHECKING:
    import pyarrow
class A:
    def f(self):
        if 1:
            from entrenar_otel.monitor.monitor import Monitor
"""
    assert list(imports(ast.parse(source))) == [
        *[("duckdb", False), ("entrenar_otel.lake", False)],
        *[("entrenar_otel", False), ("entrenar_otel.lake", False)],
        *[("entrenar_otel.lake", False), ("entrenar_otel.lake.prune", False)],
        ("entrenar_otel.monitor.monitor", True),
    ]


def test_processors_know_only_numpy() -> None:
    """They judge numbers wherever those come from: no entrenar_otel, no OpenTelemetry, no lake.

    scipy and scikit-learn come with an extra: only within the functions that need them. pydantic takes a
    tenth of a second to import: only the modules of the settings know it, and nobody imports those.
    """
    found = {
        (name.split(".")[0] == "config", target.split(".")[0], lazily)
        for name, tree in modules("entrenar_processors", ROOT / "processors")
        for target, lazily in imports(tree)
    }
    others = {one[1:] for one in found if one[1] not in sys.stdlib_module_names and not one[0]}
    assert others | {("entrenar_native", False)} == {
        *(("numpy", False), ("entrenar_processors", False), ("entrenar_native", False)),
        *(("scipy", True), ("sklearn", True)),
    }
    settings = {one[1] for one in found if one[0] and one[1] not in sys.stdlib_module_names}
    assert settings == {"pydantic", "entrenar_processors"}
    for name, tree in modules("entrenar_processors", ROOT / "processors"):
        if name.split(".")[0] != "config":
            assert not [one for one, lazily in imports(tree) if ".config" in one and not lazily], name


def test_import_is_light() -> None:
    """The package, its test kit and the command load none of the heavy libraries."""
    heavy = [
        "duckdb",
        "pyarrow",
        "scipy",
        "sklearn",
        "matplotlib",
        "pydantic",
        "grpc",
        "pandas",
        "torch",
        "opentelemetry",
    ]
    for code in (
        "from entrenar_otel import Monitor, configure",
        "import entrenar_otel.testing, entrenar_otel.monitor.collector",
        "from entrenar_otel.cli.main import app",
    ):
        program = f"import sys; {code}; print([m for m in {heavy} if m in sys.modules])"
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        assert done.stdout == "[]\n", code


def test_import_has_no_effects() -> None:
    """Importing installs no log handler, signal handler or thread, and writes nothing."""
    program = (
        "import logging, os, signal, sys, threading\n"
        "state = lambda: (signal.getsignal(signal.SIGTERM), sys.excepthook, dict(os.environ), "
        "[*logging.root.handlers])\n"
        "before = state()\n"
        "from entrenar_otel import Monitor, configure\n"
        "assert before == state()\n"
        "assert threading.active_count() == 1 and os.listdir() == []\n"
        "assert logging.getLogger('entrenar_otel').handlers == []\n"
    )
    Path("empty").mkdir()
    subprocess.run([sys.executable, "-c", program], check=True, cwd="empty")


def test_version_is_the_changelog_s() -> None:
    """The newest heading of CHANGELOG.md names the version that the code has."""
    headings = re.findall(r"^## (\d+\.\d+\.\d+)", (ROOT / "CHANGELOG.md").read_text(), flags=re.M)
    assert headings[0] == entrenar_otel.__version__


#: Files that may be longer than 600 lines, and how long.
LONG: dict[str, int] = {}


def test_no_file_is_too_long() -> None:
    """Nobody wants to read more than 600 lines to change one; a test file has at most 350."""
    for folder in ("entrenar_otel", "processors", "native", "tests", "benchmarks"):
        for path in (ROOT / folder).rglob("*.py"):
            name = path.relative_to(ROOT).as_posix()
            limit = 350 if folder == "tests" else LONG.get(name, 600)
            assert len(path.read_text(encoding="utf-8").splitlines()) <= limit, name


def test_the_native_core_stays_small() -> None:
    """C is read with twice the care: 1,000 lines of code besides comments, and no file over 600."""
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / "native").rglob("*.[ch]")]
    assert max(len(text.splitlines()) for text in texts) <= 600
    codes = [re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL) for text in texts]
    assert sum(1 for code in codes for line in code.splitlines() if line.strip()) <= 1000


def test_what_is_called_slow_is_there(request: pytest.FixtureRequest) -> None:
    """A test that is renamed is not lost from the slow half in silence."""
    conftest = request.config.pluginmanager.get_plugin(str(ROOT / "conftest.py"))
    assert conftest is not None
    lists = (conftest.SLOW, conftest.ANY_PYTHON, conftest.ANY_LIBRARIES, conftest.UNCOVERED)
    for name in itertools.chain(*lists):
        path, _, function = name.partition("::")
        assert (ROOT / path).exists(), name
        if function:
            assert f"\ndef {function}(" in (ROOT / path).read_text(encoding="utf-8"), name
