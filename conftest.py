"""For tests and doctests alike: which of them run in which lane of CI, and what names doctests have."""

from __future__ import annotations

import ast
import os
import re
import signal
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings

#: Slow ones without coverage, by which they would take half as long again (twice as long, those
#: that judge long streams): what they run, other tests reach.
UNCOVERED = (
    "tests/andon/test_ranks.py",
    "tests/cli/test_output.py::test_a_terminal_of_any_encoding",
    "tests/collector",
    "tests/containers",
    "tests/faults",
    "tests/otel/metrics/test_instruments.py::test_any_sequence_of_calls",
    "tests/otel/metrics/test_sdk_minors.py",
    "tests/otel/metrics/test_series_writers.py::test_what_is_called_is_what_the_lake_returns",
    "tests/processors/detectors/test_detector_quality.py",
    "tests/processors/detectors/test_drift.py::test_repeated_looks_are_no_more_often_wrong",
    "tests/processors/detectors/test_joint_contract.py::test_chunks_do_not_matter",
    "tests/processors/detectors/test_silent.py::test_random_reporters_by_design",
    "tests/processors/detectors/test_silent_streams.py::test_silence_in_any_chunks",
    "tests/processors/detectors/test_threshold_streams.py::test_bounds_in_any_chunks",
    "tests/processors/stats/test_rolling_moments.py::test_rolling_moments_are_those_of_a_deque",
    "tests/processors/stats/test_silence.py::test_rules_are_their_definition",
    "tests/processors/test_contract_processors.py::test_chunks_do_not_matter",
    "tests/processors/test_policy_streams.py::test_every_alert_is_told_and_over_once",
    "tests/processors/test_policy_streams.py::test_finding_by_finding_episodes_are_as_defined",
    "tests/sink/test_fuzz.py",
    "tests/sink/test_like_embedded.py",
    "tests/test_wheel.py",
)
#: The slow half: what starts servers and processes, judges long streams, tries many examples or draws much,
#: while what it shows hardly depends on versions of Python or of libraries. Folders, files and single tests,
#: marked `slow`. `.ci/run` runs all tests on one Python, and the others (`-m "not slow"`) on the rest.
SLOW = (
    *UNCOVERED,
    "tests/andon/test_commands.py",
    "tests/andon/test_pictures.py::test_without_a_matplotlib_that_works_nothing_is_said",
    "tests/cli/test_ci.py::test_a_run_that_was_killed",
    "tests/cli/test_grid.py::test_what_a_person_sees",
    "tests/cli/test_grid.py::test_without_utf_8_and_without_colours",
    "tests/lake/test_storage.py",
    "tests/otel/metrics/test_otlp_servers.py",
    "tests/otel/otlp/test_delivery.py",
    "tests/otel/otlp/test_exporter.py",
    "tests/otel/otlp/test_what_leaves.py",
    "tests/prometheus/test_end_states.py",
    "tests/report/test_causes.py",
    "tests/sink/test_grpc_server.py",
    "tests/sink/test_http_clients.py",
    "tests/sink/test_http_server.py",
    "tests/sink/test_identity.py",
    "tests/sink/test_object_store.py",
    "tests/system/test_gpus.py",
    "tests/system/test_run.py",
    "tests/views/test_dashboard.py::test_without_the_extra_a_command_says_how_to_get_it",
    "tests/views/test_picture.py::test_what_is_missing_or_elsewhere_is_seen",
    "tests/views/test_pseudo_terminal.py",
)
#: What rests on libraries, arithmetic or text, and not on the interpreter, marked `any_python`: it runs on
#: one Python, as the libraries are the same on each.
ANY_PYTHON = (
    "tests/andon/test_alerts_view.py",
    "tests/andon/test_clock_steps.py",
    "tests/andon/test_scale_lr.py",
    "tests/andon/test_thresholds.py",
    "tests/cli/commands/test_ab.py",
    "tests/cli/commands/test_explain_lineage.py",
    "tests/cli/commands/test_gate.py",
    "tests/cli/commands/test_generate.py",
    "tests/cli/commands/test_inspect.py",
    "tests/cli/commands/test_report.py",
    "tests/cli/test_ci.py",
    "tests/cli/test_compare.py",
    "tests/cli/test_grid.py",
    "tests/compare",
    "tests/grafana",
    "tests/lake/test_budget_facts.py",
    "tests/lake/test_compact_prune.py",
    "tests/lake/test_hints.py",
    "tests/lake/test_holdings.py",
    "tests/lake/test_ranks.py",
    "tests/lake/test_readers.py",
    "tests/lake/test_series_list.py",
    "tests/lake/test_sql.py",
    "tests/lake/test_statistics.py",
    "tests/lake/test_versions.py",
    "tests/lake/test_views.py",
    "tests/lineage",
    "tests/page",
    "tests/processors/budgets",
    "tests/processors/detectors",
    "tests/processors/stats",
    "tests/processors/test_contract_processors.py",
    "tests/processors/test_policy_streams.py",
    "tests/report",
    "tests/serving/ab",
    "tests/test_four_experts.py",
    "tests/views/test_picture.py",
    "tests/views/test_pictures_of_the_terminal.py",
)
#: What rests on the interpreter and our own code, and not on libraries, marked `any_libraries`: it does not
#: run with their lowest versions.
ANY_LIBRARIES = (
    "tests/andon/judging/test_user_processor.py",
    "tests/andon/test_andon_faults.py",
    "tests/andon/test_clock_steps.py",
    "tests/andon/test_pause.py",
    "tests/andon/test_stalled.py",
    "tests/andon/test_stop.py",
    "tests/andon/test_thresholds.py",
    "tests/delivery",
    "tests/grafana",
    "tests/identity",
    "tests/launch",
    "tests/native",
    "tests/page",
    "tests/recording/device",
    "tests/recording/test_decode.py",
    "tests/recording/test_decode_notes.py",
    "tests/recording/test_interrupted.py",
    "tests/recording/test_killed.py",
    "tests/recording/test_life.py",
    "tests/recording/test_live_folder.py",
    "tests/recording/test_native_path.py",
    "tests/recording/test_segment.py",
    "tests/recording/test_segment_log.py",
    "tests/recording/test_segments.py",
    "tests/web",
)
MARKS = {"slow": SLOW, "no_cover": UNCOVERED, "any_python": ANY_PYTHON, "any_libraries": ANY_LIBRARIES}
ROOT = Path(__file__).parent

# A shell starts background jobs with SIGINT ignored, and children inherit that: Ctrl-C could not be tested.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


# Hundreds of tests start processes of their own: none compiles the package anew, and threads of NumPy's
# that wait for work in a loop take no core from the others.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False  # nor rewrites the assertions of all tests anew
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Else what a run has recorded depends on how long it took: its machine is read each 10 s, and at its end.
os.environ["ENTRENAR_SYSTEM_METRICS"] = "0"

# No test is about how long one example takes: the machine may be busy. `--hypothesis-profile repeat` is for
# lanes that repeat what another has tried with a hundred examples.
settings.register_profile("untimed", deadline=None)
settings.register_profile("repeat", deadline=None, max_examples=25)
settings.load_profile("untimed")


def pytest_configure(config: pytest.Config) -> None:
    """Make the mark known, wherever the settings come from (scripts/mutation.toml has its own)."""
    config.addinivalue_line("markers", "slow: not in the quick half, see SLOW in conftest.py")
    config.addinivalue_line("markers", "any_python: not on another Python, see ANY_PYTHON in conftest.py")
    config.addinivalue_line("markers", "any_libraries: not with their lowest versions, see ANY_LIBRARIES")
    config.addinivalue_line("markers", "no_cover: without coverage (of pytest-cov), see UNCOVERED")


def _beginnings(names: tuple[str, ...]) -> tuple[str, ...]:
    """How the ids of these folders', files' and tests' tests begin, with a `[` behind each."""
    return tuple(name + ("[" if "::" in name else "::" if name.endswith(".py") else "/") for name in names)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out what needs not be imported to know that none of its tests runs.

    Files and folders of this lane's lists; and doctests of an integration that imports its framework at
    once, where it is missing: `make test-frameworks` has it.
    """
    if f"{collection_path}/".startswith(_left_out(config.option.markexpr)):
        return True
    if collection_path.parent.name != "integrations" or collection_path.suffix != ".py":
        return None
    top = ast.parse(collection_path.read_text(encoding="utf-8")).body
    named = [statement.module or "" for statement in top if isinstance(statement, ast.ImportFrom)]
    named += [name.name for statement in top if isinstance(statement, ast.Import) for name in statement.names]
    missing = [name for name in named if find_spec(name.partition(".")[0]) is None]
    return True if missing else None


@cache
def _left_out(markexpr: str) -> tuple[str, ...]:
    """The paths of which `-m` selects nothing, with a `/` behind each; not those of single tests."""
    without = re.findall(r"not (\w+)", markexpr) if re.fullmatch(r"not \w+( and not \w+)*", markexpr) else ()
    return tuple(f"{ROOT / name}/" for mark in without for name in MARKS.get(mark, ()) if "::" not in name)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is not in each lane; pytest-cov knows `no_cover`."""
    for mark, names in MARKS.items():
        beginnings = _beginnings(names)
        for item in items:
            if f"{item.nodeid}[".startswith(beginnings):
                item.add_marker(mark)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say loudly what is not tested on this machine: skips that say NOT TESTED."""
    reasons = {report.longrepr[2] for report in terminalreporter.stats.get("skipped", [])}
    for reason in sorted(one.removeprefix("Skipped: ") for one in reasons):
        if "NOT TESTED" in reason:
            terminalreporter.write_line(reason, yellow=True, bold=True)


@pytest.fixture(autouse=True)
def no_cover_for_children(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test without coverage starts has none either."""
    if request.node.get_closest_marker("no_cover") is not None:
        monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)


@pytest.fixture(autouse=True)
def doctest_names(doctest_namespace: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names that doctests use."""
    monkeypatch.setenv("ENTRENAR_LIVE", str(tmp_path / "live"))
    doctest_namespace |= {"np": np, "tmp_path": tmp_path}
