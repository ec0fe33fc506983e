"""Settings: renacer.toml, environment and code; what is wrong is said at construction, or done without."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from entrenar_processors.config.models import Config

from entrenar_otel import ConfigError, LakeError, Monitor
from entrenar_otel.lake import DEFAULT_LAKE, Lake
from entrenar_otel.run import settings as run_settings
from entrenar_otel.run.settings import RunSettings, load_config
from entrenar_otel.testing import recorded_run


def write_toml(text: str) -> Path:
    path = Path("renacer.toml")
    path.write_text(text, encoding="utf-8")
    return path


def test_defaults_and_a_whole_file() -> None:
    """No file and an empty one are the defaults; tables of other parts are left alone."""
    assert RunSettings.find() == RunSettings(lake=None, interval_seconds=1.0, retention_days=None)
    assert RunSettings.find() == RunSettings.find(None) == RunSettings()
    assert RunSettings().full() == Config()
    assert load_config(write_toml("[alerts]\nx = 1\n")) == Config()
    write_toml('[monitor]\nlake = "s3://b/l"\ninterval_seconds = 2\nretention_days = 0.5\n')
    found = RunSettings.find()
    assert (found.lake, found.interval_seconds, found.retention_days) == ("s3://b/l", 2.0, 0.5)
    assert found == RunSettings.of(found.full())
    assert found.full() is found.file
    assert RunSettings.find(None) == RunSettings()


def test_a_monitor_holds_the_whole_file() -> None:
    """Where there is one; without, nothing is imported that only a file needs."""
    program = "import sys, entrenar_otel; entrenar_otel.Monitor(quiet=True); print('pydantic' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
    write_toml('[monitor.andon]\npage_via = "prometheus"\n[otlp]\nservice_name = "digits"\n')
    file = recorded_run(Monitor(quiet=True, interval_seconds=3)).request.settings.full()
    assert (file.monitor.andon.page_via, file.otlp.service_name) == ("prometheus", "digits")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[monitor\n", "renacer.toml:1: expected TOML, found a syntax error"),
        ("monitor = 3\n", "renacer.toml:1: monitor: expected a table, found 3"),
        ("[monitor]\nlake = 3\n", "renacer.toml:2: monitor.lake: expected text .*, found 3"),
        ('[monitor]\nlake = ""\n', 'monitor.lake: expected text of 1 to 200 characters, found ""'),
        (
            "[monitor]\ninterval_seconds = true\n",
            "interval_seconds: expected a number .*, found true",
        ),
        ("[monitor]\nretention_days = inf\n", "retention_days: expected a number above 0 .*, found inf"),
    ],
)
def test_a_wrong_file_is_named_and_never_fails_auto(
    text: str, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    """File, key, what was expected and found: raised by Monitor(); auto() records with the defaults."""
    path = write_toml(text)
    for make in (lambda: load_config(path), RunSettings.find, Monitor):
        with pytest.raises(ConfigError, match=told):
            make()
    with Monitor.auto() as monitor:
        monitor.log(loss=1.0)
    assert monitor.sample_count("loss") == 1
    assert re.search(f"{told}.*recording with the defaults", caplog.text)


def test_a_file_that_is_no_text() -> None:
    """Neither bytes that are not UTF-8 nor a file that is gone are a traceback."""
    Path("renacer.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r"renacer.toml:1: expected text in UTF-8, found UTF-16"):
        RunSettings.find()
    with pytest.raises(ConfigError, match=r"gone.toml: expected a file, found none"):
        load_config(Path("gone.toml"))
    Path("folder.toml").mkdir()
    with pytest.raises(ConfigError, match=r"folder.toml: expected a file, found a folder"):
        Monitor(settings_file="folder.toml")


def test_code_goes_before_environment_before_file_before_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each source is used when those before it say nothing; retention acts on the run's own lake only."""

    def used(**settings: Any) -> tuple[str, float, float | None]:
        monitor = Monitor(quiet=True, **settings)
        chosen = recorded_run(monitor).request.settings
        return Path(monitor.lake.url).name, chosen.interval_seconds, chosen.retention_days

    assert used() == ("entrenar-lake", 1.0, None)
    write_toml('[monitor]\nlake = "from-file"\ninterval_seconds = 3\nretention_days = 9\n')
    assert used() == ("from-file", 3.0, 9.0)
    monkeypatch.setenv("ENTRENAR_LAKE", "from-env")
    assert used() == ("from-env", 3.0, 9.0)
    assert used(lake="from-code", interval_seconds=0.5) == ("from-code", 0.5, None)


Setter = Callable[[str, str], None]


@pytest.mark.parametrize(
    ("environment", "run_id", "rank", "size"),
    [
        ({"ENTRENAR_RUN_ID": "mine", "TORCHELASTIC_RUN_ID": "t", "SLURM_JOB_ID": "1"}, "mine", 0, 1),
        ({"TORCHELASTIC_RUN_ID": "t", "SLURM_JOB_ID": "1", "RANK": "3", "WORLD_SIZE": "8"}, "t", 3, 8),
        ({"TORCHELASTIC_RUN_ID": "none", "SLURM_JOB_ID": "12", "SLURM_STEP_ID": "3"}, "12.3", 0, 1),
        ({"ENTRENAR_RUN_ID": "x", "SLURM_PROCID": "5", "SLURM_NTASKS": "6"}, "x", 0, 1),
        ({"ENTRENAR_RUN_ID": "x", "RANK": "2", "WORLD_SIZE": "-1"}, "x", 2, 3),
        ({"ENTRENAR_RUN_ID": "x", "RANK": "-1", "WORLD_SIZE": "1"}, "x", 0, 1),
        ({"ENTRENAR_RUN_ID": "x", "RANK": "two", "WORLD_SIZE": "?"}, "x", 0, 1),
    ],
)
def test_run_and_rank_of_the_launcher(
    environment: dict[str, str], run_id: str, rank: int, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ours, torchrun's, Slurm's; nonsense counts as not given; code goes first."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with Monitor.auto() as monitor:
        monitor.log(loss=1.0)
        assert [(r.run_id, r.rank) for r in monitor.to_records()] == [(run_id, rank)]
    assert (monitor.run_id, monitor.rank, monitor.world_size) == (run_id, rank, size)
    other = Monitor("code", rank=1, world_size=4, quiet=True)
    assert (other.run_id, other.rank, other.world_size) == ("code", 1, 4)


def test_ranks_without_a_shared_id_are_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Several ranks and no run id: rank 0 names the variable to set; new ids never repeat."""
    monkeypatch.setenv("WORLD_SIZE", "4")
    ids = set()
    for rank in ("1", "0"):
        assert caplog.text == ""
        monkeypatch.setenv("RANK", rank)
        ids |= {Monitor.auto().run_id, Monitor.auto().run_id}
    assert len(ids) == 4
    assert "4 ranks share no run id, so each records a run of its own: set ENTRENAR_RUN_ID" in caplog.text


def test_start_says_where_unless_quiet_or_another_rank(capsys: pytest.CaptureFixture[str]) -> None:
    """One line on stderr names run and lake, and the attempt from the second on; another the end."""
    for settings in ({}, {}, {"quiet": True}, {"rank": 1}):
        Monitor("r", **settings).start().close()
    lake = Path("entrenar-lake").absolute()
    end = f"entrenar: run r completed; look at it with `entrenar-otel show r --lake {lake}`"
    said = capsys.readouterr().err.splitlines()
    assert said[::2] == [f"entrenar: recording run r{extra} into {lake}" for extra in ("", ", attempt 2")]
    assert all(line == end for line in said[1::2])
    assert len(said) == 4


@pytest.mark.parametrize(
    "run_id", ["../../up", "a/b\\c", "run=7 %2F", "ü ñ 训", "007", ".", "..", "a\nb", "x" * 200]
)
def test_any_text_is_a_run_id(run_id: str) -> None:
    """It is one folder under runs/ and metrics/, and comes back as it was."""
    with Monitor(run_id, lake="lake", quiet=True) as monitor:
        monitor.log(loss=1.0)
    assert monitor.query("SELECT DISTINCT run_id FROM metrics").to_pylist() == [{"run_id": run_id}]
    assert Lake("lake").find_run() == run_id
    for table in ("runs", "metrics"):
        (folder,) = Path("lake", table).glob("day=*/*")
        assert folder.name.startswith("run=")
    assert sorted(path.name for path in Path().iterdir()) == ["lake", "live"]


def test_a_run_id_of_300_characters(caplog: pytest.LogCaptureFixture) -> None:
    """It is cut and kept apart by a hash, with a warning; an error where bad values are errors."""
    ids = {Monitor("x" * 299 + end, lake="lake", quiet=True).run_id for end in ("a", "b")}
    assert [len(one) for one in ids] == [197, 197]
    assert "a run id has at most 200 characters, got 300: 'xxx" in caplog.text
    with pytest.raises(ConfigError, match="a run id has at most 200 characters, got 300"):
        Monitor("x" * 300, lake="lake", on_bad_value="raise")


WRONG: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"run_id": 7}, ConfigError, "a run id must be text, got 7"),
    ({"run_id": "a\udcff"}, ConfigError, r"a run id must be text that UTF-8 can write, got 'a\\udcff'"),
    ({"resume": "maybe"}, ConfigError, "expected resume to be one of allow, never, must, got 'maybe'"),
    ({"on_bad_value": "x"}, ConfigError, "expected on_bad_value to be one of warn, raise, got 'x'"),
    ({"interval_seconds": 0}, ConfigError, "expected interval_seconds to be a number above 0, got 0"),
    ({"interval_seconds": -1}, ConfigError, "expected interval_seconds to be a number above 0, got -1"),
    ({"interval_seconds": "1"}, ConfigError, "expected interval_seconds to be a number above 0, got '1'"),
    ({"rank": -1}, ConfigError, "expected rank to be a whole number from 0, got -1"),
    ({"rank": 1.5}, ConfigError, "expected rank to be a whole number from 0, got 1.5"),
    ({"world_size": 0}, ConfigError, "expected world_size to be a whole number from 1, got 0"),
    ({"lake": ""}, ConfigError, "expected lake to be a folder or URL, got ''"),
    ({"lake": 7}, ConfigError, "expected lake to be a folder or URL, got 7"),
    (
        {"lake": "nosuch://bucket/x"},
        LakeError,
        "nosuch://bucket/x is neither a folder nor a URL that Arrow knows",
    ),
    ({"lake": "file/lake"}, ConfigError, "file/lake cannot be used: .* Name another folder with lake="),
    ({"live": "file/live"}, ConfigError, "no folder for live segments: file/live is not writable"),
]


@pytest.mark.parametrize(("settings", "kind", "told"), WRONG)
def test_wrong_settings_raise_in_code_and_warn_in_auto(
    settings: dict[str, Any], kind: type[Exception], told: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Expected, found, what to do: an error where it was asked for, a line and the twin from auto()."""
    Path("file").write_text("in the way")
    settings = {"lake": "lake", "quiet": True, **settings}
    with pytest.raises(kind, match=told):
        Monitor(**settings)
    with Monitor.auto(**settings) as monitor:
        monitor.log(loss=float("nan"))
    assert not monitor.enabled
    assert re.search(f"monitoring is off: .*{told}", caplog.text)


@pytest.mark.parametrize("source", ["environment", "file", "default"])
def test_a_default_lake_that_cannot_be_written_has_a_second_place(
    source: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """Nobody named it in code, so the run is recorded beside the live segments, and it is said where."""
    Path("entrenar-lake").write_text("in the way")
    if source == "environment":
        monkeypatch.setenv("ENTRENAR_LAKE", "entrenar-lake/deep")
    elif source == "file":
        write_toml('[monitor]\nlake = "entrenar-lake"\n')
    caplog.set_level(logging.WARNING)
    with Monitor.auto(run_id="r", quiet=True) as monitor:
        monitor.log(loss=1.0)
    assert Path(monitor.lake.url) == tmp_path / "lake"
    assert f"recording into {tmp_path / 'lake'}" in caplog.text
    assert Lake(tmp_path / "lake").query("SELECT value FROM metrics").to_pylist() == [{"value": 1.0}]


def test_a_lake_that_breaks_after_construction_gets_the_run_when_it_is_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is recorded on the local disk from the first log on; said once."""
    monitor = Monitor("r", lake="lake", quiet=True)
    Path("lake").rmdir()
    Path("lake").write_text("in the way")
    for value in (1.0, 2.0):
        monitor.log(loss=value)
    assert (monitor.enabled, monitor.attempt) == (True, None)
    assert caplog.text.count("cannot be written") == 1
    Path("lake").unlink()
    monitor.close()
    assert [(one.attempt, one.state) for one in Lake("lake").runs()] == [(1, "completed")]
    assert Lake("lake").query("SELECT attempt, value FROM metrics ORDER BY value").to_pylist() == [
        {"attempt": 1, "value": 1.0},
        {"attempt": 1, "value": 2.0},
    ]


def test_one_default_lake() -> None:
    """Written twice, since the lake's package is slow to import."""
    assert run_settings.DEFAULT_LAKE == DEFAULT_LAKE


def test_otlp_that_is_off_sends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """`[otlp] enabled = false` with an endpoint, as many a renacer.toml has it: nobody is connected to."""
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
    write_toml('[otlp]\nenabled = false\nendpoint = "http://localhost:4317"\nservice_name = "digits"\n')
    assert RunSettings.find("renacer.toml").otlp == (None, "digits")
    with Monitor("r", quiet=True) as monitor:
        monitor.log(a=1)
        assert [thread.name for thread in threading.enumerate() if "OTLP" in thread.name] == []
    write_toml('[otlp]\nendpoint = "http://localhost:4317"\n')
    assert RunSettings.find("renacer.toml").otlp == ("http://localhost:4317", None)
