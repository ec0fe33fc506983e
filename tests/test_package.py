"""The package as a whole: its public names, its import direction, its weight."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import entrenar_otel

ROOT = Path(entrenar_otel.__file__).parents[1]

#: Who may import whom: a module imports from layers above its own line only.
LAYERS: list[list[str]] = [
    ["_version", "errors", "names", "clock"],
    ["identity", "records", "batches", "config", "worker", "scale_lr", "sdk_seams"],
    ["outbox"],
    # who is told of an alert
    ["handlers.shown"],
    ["handlers.handler"],
    ["handlers.log", "handlers.endpoint"],
    ["handlers.payload"],
    ["handlers.webhook", "handlers.alertmanager", "handlers.apprise"],
    ["handlers"],
    # the hot path: from the record's form to the recorder
    ["recording"],
    ["recording.layout"],
    ["recording.segment", "recording.inputs", "recording.notes"],
    ["recording.decode"],
    ["recording.chain"],
    ["recording.recorder"],
    # the lake: from the table's form, over the places of files, to the store
    ["lake.schema"],
    ["lake.storage", "lake.journal"],
    ["lake.catalog"],
    ["lake.live", "lake.runs"],
    ["lake.views"],
    ["lake.query", "lake.compact"],
    ["lake.recover", "lake.prune"],
    ["lake.lake"],
    ["lake"],
    ["lake.facts"],
    # what goes out of it, and the page
    ["exporters.naming"],
    ["exporters.text", "exporters.prometheus", "exporters.exposition", "exporters.page_server"],
    ["exporters.page"],
    ["exporters"],
    # OpenTelemetry's spans
    ["tracing", "environment"],
    ["tracing.attributes", "tracing.ids"],
    ["resource", "tracing.restored_span", "tracing.span_journal", "tracing.open_span"],
    ["tracing.span_export", "tracing.warnings_capture"],
    ["tracing.global_tracing"],
    ["tracing.run_tracing"],
    # OpenTelemetry's metrics: from an instrument's call to what exporters get
    ["metering"],
    ["metering.registry"],
    ["metering.shapes", "metering.aggregate", "metering.overhead"],
    ["metering.instruments", "metering.points"],
    ["metering.meter", "metering.state", "metering.export"],
    ["metering.views"],
    ["metering.sdk_reader"],
    ["metering.telemetry"],
    ["metering.publisher"],
    # what happens when something is abnormal (its handlers are above)
    ["andon.settings", "andon.control", "andon.warned"],
    ["andon", "andon.andon", "andon.bystander", "andon.budget_watch", "andon.judge", "andon.incidents"],
    ["andon.line"],
    # the life of a run
    ["heartbeat", "progress", "lifetime"],
    ["metering.providers"],
    ["run", "loop", "answers"],
    ["cord"],
    ["monitor"],
    ["builder", "collector", "configure", "reader", "testing"],
    ["sdk", "pytest_plugin"],
    # the command
    ["cli"],
    ["cli.control"],
    ["cli.views"],
    ["cli.events", "cli.config"],
    ["cli.spans", "cli.alerts", "cli.ci"],
    ["demo"],
    ["cli.main"],
]
PLACE = {module: i for i, layer in enumerate(LAYERS) for module in layer}

#: Imports within functions, each with its reason; there are no others.
LAZY: dict[str, dict[str, str]] = {
    "monitor": {
        "builder": "a way to make one, and the only import against the direction: the builder makes Monitors",
        "lake": "duckdb and pyarrow, 0.2 s, not before a run starts or is asked",
        "lake.runs": "needs pyarrow",
        "environment": "not before a run starts",
        "metering.providers": "OpenTelemetry's SDK, 0.1 s, not before a run starts",
        "run": "needs the lake and OpenTelemetry",
        "sdk_seams": "needs OpenTelemetry",
    },
    "cord": {
        "andon.andon": "not before a run starts, or there is something to call",
        "andon.bystander": "only where a rank without a run is asked",
        "andon.line": "needs the settings of processors, with pydantic",
        "andon.settings": "the same",
        "andon.budget_watch": "only where there are budgets",
    },
    "answers": {"lake": "duckdb and pyarrow"},
    "configure": {"metering.providers": "OpenTelemetry's SDK"},
    "metering.telemetry": {"exporters.page": "only where it is asked for"},
    "exporters": {
        "exporters.text": "needs pyarrow",
        "exporters.prometheus": "needs prometheus_client, for this format only",
    },
    "demo": {
        "cli.alerts": "rich tables, when there is something to show",
        "cli.views": "the same",
        "cli.spans": "the same",
    },
    "cli.main": {
        "andon.control": "--help and completion answer at once",
        "cli.alerts": "the same",
        "cli.control": "the same",
        "cli.views": "the same",
        "cli.events": "the same",
        "cli.spans": "the same",
        "cli.config": "the same: needs pydantic",
        "cli.ci": "the same",
        "config": "the same",
        "demo": "the same",
        "exporters": "the same",
        "exporters.text": "the same",
        "lake": "the same: needs duckdb and pyarrow",
    },
}


def modules(package: str, folder: Path) -> Iterator[tuple[str, ast.Module]]:
    for path in sorted((folder / package).rglob("*.py")):
        parts = path.relative_to(folder / package).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        yield name, ast.parse(path.read_text(encoding="utf-8"))


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
            for alias in node.names:
                whole = f"{module}.{alias.name}"
                yield (whole if whole.removeprefix("entrenar_otel.") in PLACE else module), lazily
        yield from imports(node, lazily or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def test_public_names() -> None:
    """`__all__` is what is public, at most 20, and everything in it has a docstring."""
    public = {
        name
        for name, value in vars(entrenar_otel).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    }
    assert set(entrenar_otel.__all__) == public | {"__version__"}
    assert len(entrenar_otel.__all__) <= 20
    assert list(entrenar_otel.__all__) == sorted(entrenar_otel.__all__)
    for name in public:
        assert getattr(entrenar_otel, name).__doc__, name


def test_imports_go_one_way() -> None:
    """Each module has a place, imports only from above it, and never the package root."""
    found = dict(modules("entrenar_otel", ROOT))
    assert set(found) == {*PLACE, ""}
    lazy: dict[str, set[str]] = {}
    for name, tree in found.items():
        for target, within_function in imports(tree):
            if target.split(".")[0] != "entrenar_otel":
                continue
            module = target.removeprefix("entrenar_otel").removeprefix(".")
            assert module, f"{name} imports the package root"
            assert module in PLACE, f"{name} imports {target}, which is no module"
            if within_function:
                lazy.setdefault(name, set()).add(module)
            if name and (name, module) != ("monitor", "builder"):
                assert PLACE[module] < PLACE[name], f"{name} imports {module}, which is not above it"
    assert lazy == {name: set(reasons) for name, reasons in LAZY.items()}


def test_the_import_check_sees_what_it_should() -> None:
    """Every form of import is found, within functions as lazy, and types are left out."""
    source = """
import duckdb, entrenar_otel.lake
from entrenar_otel import lake, Monitor
from entrenar_otel.lake import Lake, runs
if TYPE_CHECKING:
    import pyarrow
class A:
    def f(self):
        if 1:
            from entrenar_otel.monitor import Monitor
"""
    assert list(imports(ast.parse(source))) == [
        *[("duckdb", False), ("entrenar_otel.lake", False), ("entrenar_otel.lake", False)],
        *[("entrenar_otel", False), ("entrenar_otel.lake", False), ("entrenar_otel.lake.runs", False)],
        ("entrenar_otel.monitor", True),
    ]


#: What reads the settings, and is imported by those only who have them.
SETTINGS = {"jidoka"}


def test_processors_know_only_numpy() -> None:
    """They judge numbers wherever those come from: no entrenar_otel, no OpenTelemetry, no lake.

    scipy and scikit-learn come with an extra: only within the functions that need them. pydantic takes a
    tenth of a second to import: only the modules of the settings know it, and nobody imports those.
    """
    found = {
        (name.startswith("config"), target.split(".")[0], lazily)
        for name, tree in modules("entrenar_processors", ROOT / "processors")
        for target, lazily in imports(tree)
    }
    others = {one[1:] for one in found if one[1] not in sys.stdlib_module_names and not one[0]}
    assert others == {("numpy", False), ("entrenar_processors", False), ("scipy", True), ("sklearn", True)}
    settings = {one[1] for one in found if one[0] and one[1] not in sys.stdlib_module_names}
    assert settings == {"pydantic", "entrenar_processors"}
    for name, tree in modules("entrenar_processors", ROOT / "processors"):
        if name not in SETTINGS and not name.startswith("config"):
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
        "import entrenar_otel",
        "import entrenar_otel.testing, entrenar_otel.collector",
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
        "import entrenar_otel\n"
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
    for folder in ("entrenar_otel", "processors", "tests", "benchmarks"):
        for path in (ROOT / folder).rglob("*.py"):
            name = path.relative_to(ROOT).as_posix()
            limit = 350 if folder == "tests" else LONG.get(name, 600)
            assert len(path.read_text(encoding="utf-8").splitlines()) <= limit, name
