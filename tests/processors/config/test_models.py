"""renacer.toml as a whole: the corpus of good and bad files, the committed example, and any input at all."""

from __future__ import annotations

import importlib.util
import re
import sys
import tomllib
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from entrenar_processors.alert import Action, Level
from entrenar_processors.config.models import (
    BadConfig,
    Config,
    Custom,
    Problem,
    config_schema,
    load_config,
    parse_config,
    parse_text,
)
from entrenar_processors.config.problems import MAX_BYTES
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

ROOT = Path(__file__).parents[3]
CORPUS = ROOT / "tests" / "data" / "renacer"
BAD = sorted((CORPUS / "bad").glob("*.toml"))
GOOD = sorted((CORPUS / "good").glob("*.toml"))


def names(paths: list[Path]) -> list[str]:
    return [path.stem for path in paths]


def refused(document: Any, text: bool = False) -> list[Problem]:
    with pytest.raises(BadConfig) as error:
        (parse_text if text else parse_config)(document)
    return error.value.problems


def test_the_corpus_is_there() -> None:
    """A folder that is gone would otherwise be no failure."""
    assert len(BAD) >= 80
    assert len(GOOD) >= 10


@pytest.mark.parametrize("path", BAD, ids=names(BAD))
def test_a_wrong_file_is_refused(path: Path) -> None:
    """With file, place, expected and found, each problem in one line; nothing of pydantic's is in it."""
    head = path.read_text(encoding="utf-8")
    want = head.splitlines()[0].removeprefix("# expect: ")
    line = re.search(r"^# line: (\d+)$", head, flags=re.M)
    with pytest.raises(BadConfig) as error:
        load_config(path)
    problems = error.value.problems
    assert str(error.value).splitlines() == [str(one) for one in problems]
    (hit, *_) = [one for one in problems if want in str(one)]
    assert hit.line == (int(line[1]) if line else None)
    for one in problems:
        place = f"{path}:{one.line}: " if one.line else f"{path}: "
        assert str(one).startswith(f"{place}{one.key}: expected " if one.key else f"{place}expected ")
        assert one.expected
        assert one.found
        assert one.key or "TOML" in one.expected
        for word in ("pydantic", "Input should", "validation error", "Traceback", "hunter2", "https://"):
            assert word not in str(one)


@pytest.mark.parametrize("path", GOOD, ids=names(GOOD))
def test_a_good_file_loads(path: Path) -> None:
    """The same from the file, its text and the parsed document."""
    text = path.read_bytes()
    config = load_config(path)
    assert config == parse_text(text)
    assert config == parse_config(tomllib.loads(text.decode("utf-8-sig")))


def test_the_example_of_the_contract() -> None:
    """Every value of the full `[monitor]` example is where it belongs."""
    monitor = load_config(CORPUS / "good" / "monitor_full.toml").monitor
    (floor,) = monitor.threshold
    assert (monitor.interval_seconds, monitor.lake, monitor.retention_days) == (1.0, "entrenar-lake", 7)
    assert (floor.name, floor.metric, floor.min, floor.for_samples) == ("accuracy_floor", "accuracy", 0.8, 3)
    assert (floor.after_steps, floor.action, floor.level) == (100, Action.PAUSE, Level.ERROR)
    assert floor.labels == {"team": "vision"}
    assert set(floor.annotations) == {"summary", "runbook_url"}
    assert monitor.zscore.actions.high is Action.NOTIFY
    assert monitor.andon.gradient_explosion is not None
    assert monitor.andon.gradient_explosion.action is Action.REDUCE_LR
    assert monitor.andon.nonfinite == {"loss": Action.STOP, "other": Action.NOTIFY}


def test_a_file_from_the_field() -> None:
    """Assertions and `[otlp]` are read; the sections and keys of other readers do not matter."""
    config = load_config(CORPUS / "good" / "field_style.toml")
    assert [one.type for one in config.assertion] == [
        *("critical_path", "span_count", "memory_usage", "anti_pattern", "anti_pattern", "anti_pattern"),
    ]
    assert (config.otlp.endpoint, config.otlp.service_name) == ("http://localhost:4317", "training")
    assert config.monitor == Config().monitor
    assert load_config(CORPUS / "good" / "empty.toml") == Config()


def test_the_committed_example_is_harmless() -> None:
    """It is used by whoever runs the demo here: it may tell, and never pauses, reduces or stops."""
    config = load_config(ROOT / "renacer.toml")
    assert len(config.assertion) == 6
    assert not [one.name for one in config.assertion if one.fail_on_violation]
    assert config.monitor == Config().monitor


def test_all_commented_settings_of_the_example_can_be() -> None:
    """What it shows in comments loads once the marks are gone; its detectors show the defaults."""
    text = (ROOT / "renacer.toml").read_text(encoding="utf-8")
    lines = [
        line[2:] if re.match(r"# (\[|[a-z_]+ = )", line) else line
        for line in text.splitlines()
        if not line.startswith(("# type = ", "# expression", '# name = "healthy"', "# [[assertion]]"))
    ]
    config = parse_text("\n".join(lines))
    assert config.monitor.detectors_on == (
        *("zscore", "spike", "divergence", "accuracy_drop", "stuck", "drift", "isolation_forest", "silent"),
    )
    default = Config().monitor
    for name in ("zscore", "spike", "divergence", "accuracy_drop", "stuck", "silent"):
        assert getattr(config.monitor, name) == getattr(default, name)
    assert config.monitor.andon.model_copy(update={"gradient_explosion": None}) == default.andon


def test_all_problems_are_told_by_line() -> None:
    """One pass is enough to repair a file: problems of every kind together, in the file's order."""
    text = (
        '[[assertion]]\nname = "a"\ntype = "span_count"\nmax_spans = "x"\n'
        '[[assertion]]\nname = "a"\ntype = "spans"\n'
        "[monitors]\nx = 1\n[monitor]\nlake = 1\n[monitor.spike]\nwindow = 1\nwidow = 1\n"
    )
    assert [(one.line, one.key) for one in refused(text, text=True)] == [
        (4, 'assertion[0] ("a").max_spans'),
        (6, 'assertion[1] ("a").name'),
        (7, 'assertion[1] ("a").type'),
        (8, "monitors"),
        (11, "monitor.lake"),
        (13, "monitor.spike.window"),
        (14, "monitor.spike.widow"),
    ]


def test_what_cannot_be_read(tmp_path: Path) -> None:
    """A folder, nothing, no UTF-8, UTF-16, a file that is huge: a line each, and no traceback."""
    file = tmp_path / "r.toml"
    for data, want in (
        (b'[monitor]\nlake = "\xff"\n', f"{file}:2: expected text in UTF-8, found the byte 0xff"),
        ("[monitor]".encode("utf-16"), f"{file}:1: expected text in UTF-8, found UTF-16"),
        (b"# " + b"x" * MAX_BYTES, f"{file}: expected at most 1,048,576 bytes, found a larger file"),
        (b"t = 12:00:00+99:99", f"{file}:1: expected TOML, found a syntax error at column"),
    ):
        file.write_bytes(data)
        with pytest.raises(BadConfig) as error:
            load_config(file)
        assert str(error.value).startswith(want)
    with pytest.raises(BadConfig, match="expected a file, found a folder"):
        load_config(tmp_path)
    with pytest.raises(BadConfig, match=r"gone.toml: expected a file, found none"):
        load_config(tmp_path / "gone.toml")
    with pytest.raises(BadConfig, match="expected a readable file, found embedded null byte"):
        load_config(Path("a\0b"))


def test_an_expression_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the expression's own module refuses is told in its words."""

    def parse(text: str) -> None:
        if "__" in text:
            raise ValueError("only p99, max and\n the like may be called")

    module = types.ModuleType("entrenar_processors.expression")
    module.parse = parse  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    row = {"name": "e", "type": "custom", "expression": "max(loss) < 3"}
    (assertion,) = parse_config({"assertion": [row]}).assertion
    assert isinstance(assertion, Custom)
    (problem,) = refused({"assertion": [row | {"expression": "__import__('os')"}]})
    assert problem.key == 'assertion[0] ("e").expression'
    assert problem.found == "\"__import__('os')\""
    assert problem.hint == "only p99, max and the like may be called"


def test_secrets_are_not_shown() -> None:
    """Neither values under such keys nor the user part and query of a URL."""
    labels = {"token": 1, "my_password": 2, "SECRET_X": 3}
    row = {"name": "t", "metric": "m", "max": "https://me:hunter2@host/?key=hunter3", "labels": labels}
    found = [one.found for one in refused({"monitor": {"threshold": [row]}})]
    assert found == ['"https://…@host/?…"', *["a value that is not shown"] * 3]


def test_durations() -> None:
    """`for` takes what `parse_seconds` takes, and keeps the text as it was written."""

    def threshold(text: str) -> Config:
        row = {"name": "t", "metric": "loss", "max": 1, "for": text}
        return parse_config({"monitor": {"threshold": [row]}})

    for text, seconds in (("1d12h", 129_600.0), ("1.5h", 5400.0), ("5 m", 300.0)):
        (found,) = threshold(text).monitor.threshold
        assert (found.for_, found.for_seconds) == (text, seconds)
    with pytest.raises(BadConfig, match=r'expected a duration such as 30s, 5m, 1h30m or 7d, found "5"$'):
        threshold("5")
    with pytest.raises(BadConfig, match=r'for: expected at most 100 years, found "101y"$'):
        threshold("101y")


# -- any input --------------------------------------------------------------------------------------

_ours = config_schema()
_keys = sorted({key for table in [_ours, *_ours["$defs"].values()] for key in table.get("properties", {})})
_words = ["loss", "stop", "span_count", "critical_path", "memory_usage", "anti_pattern", "5m", "ERROR", "rss"]
_words += ["custom"] if importlib.util.find_spec("entrenar_processors.expression") else []
_scalars = (
    st.sampled_from(_words) | st.text(max_size=20) | st.integers() | st.floats() | st.booleans()
    | st.none() | st.dates() | st.times() | st.datetimes()
    | st.sampled_from([400, 5000]).map(lambda n: -(10**n))
)  # fmt: skip
_documents = st.recursive(
    _scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(_keys) | st.text(max_size=8), inner, max_size=6)
    ),
    max_leaves=25,
)
_texts = [path.read_bytes() for path in GOOD]
_pieces = [b"[", b"]", b"{", b"}", b'"', b"'", b"=", b".", b"\n", b"\\", b"#", b"nan", b"-", b"9" * 30]
_rigid = settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.too_slow])


def told(parse: Callable[[Any], Config], source: Any) -> str:
    """What is said of it: nothing, or BadConfig's text."""
    try:
        assert isinstance(parse(source), Config)
    except BadConfig as error:
        lines = [str(one) for one in error.problems]
        text = str(error)
    else:
        return ""
    assert lines
    assert text.splitlines() == lines
    return text


@_rigid
@given(
    st.dictionaries(st.sampled_from(["assertion", "monitor", "otlp", "x"]), _documents, max_size=4)
    | _documents
)
def test_no_document_raises_anything_else(document: Any) -> None:
    """A Config or BadConfig, whose text is one line a problem that UTF-8 can write."""
    told(parse_config, document).encode()


@_rigid
@given(
    st.sampled_from(_texts),
    st.lists(
        st.tuples(st.integers(0, 3000), st.integers(0, 30), st.sampled_from(_pieces) | st.binary(max_size=4)),
        min_size=1,
        max_size=4,
    ),
)
def test_no_mutation_of_a_file_raises_anything_else(text: bytes, cuts: list[tuple[int, int, bytes]]) -> None:
    """Whatever an editor, a disk or a merge did to a file."""
    for start, length, piece in cuts:
        at = start % (len(text) + 1)
        text = text[:at] + piece + text[at + length :]
    told(parse_text, text).encode()
