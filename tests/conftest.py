"""Every test has live and lake folders of its own, and monitoring's own failures raise."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import tomllib
import urllib.request
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import entrenar_native
import pytest
from opentelemetry.metrics import _internal
from opentelemetry.util._once import Once

import entrenar_otel
from entrenar_otel import Monitor, errors
from entrenar_otel.identity.helper import unmark_recording
from entrenar_otel.monitor import request
from entrenar_otel.otel.metrics import provider as providers
from entrenar_otel.recording.segment import Segment
from entrenar_otel.run import lifetime
from entrenar_otel.testing import strict
from tests.ports import free_port


@pytest.fixture(autouse=True)
def isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A working folder, live folder and environment that no other test sees."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ENTRENAR_LIVE", str(tmp_path / "live"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("ENTRENAR_INCIDENT_PICTURES", "0")  # else each takes two seconds of a core
    monkeypatch.setenv("ENTRENAR_INCIDENT_REPORTS", "0")
    for name in (
        *("ENTRENAR_LAKE", "ENTRENAR_RUN_ID", "ENTRENAR_DISABLED", "OTEL_SDK_DISABLED", "ENTRENAR_PARENT"),
        *("RANK", "LOCAL_RANK", "WORLD_SIZE", "SLURM_PROCID", "SLURM_JOB_ID", "SLURM_STEP_ID"),
        *("TORCHELASTIC_RUN_ID", "PMIX_NAMESPACE", "OMPI_COMM_WORLD_RANK"),
    ):
        monkeypatch.delenv(name, raising=False)
    request.id_uses.clear()
    errors.failures.clear()  # they are the process's: what another test left is not this one's
    with strict():
        yield
    for monitor in list(lifetime.open_runs()):
        monitor.close()
    unmark_recording()
    forget_global_reader()


def forget_global_reader() -> None:
    """The global meter provider is the process's: one that a test gave an SDK behind it ends with that test.

    Else a run reads that SDK and no other from then on. A tracer is enough for it: up to 1.40 the SDK counts
    spans there without being asked to.
    """
    if (installed := providers._installed) is not None and installed.reader is not None:
        providers._installed = _internal._METER_PROVIDER = None
        _internal._METER_PROVIDER_SET_ONCE = Once()
        _internal._PROXY_METER_PROVIDER = _internal._ProxyMeterProvider()  # whose meters would go to the next


class Answer(NamedTuple):
    """What a command came to."""

    code: int
    out: str
    err: str


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Answer]:
    """Call `main()` as the console script does, on `./lake`; no traceback ever gets out."""
    from entrenar_otel.cli.main import main

    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("ENTRENAR_LAKE", "lake")

    def call(*arguments: str) -> Answer:
        monkeypatch.setattr(sys, "argv", ["entrenar-otel", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as exit_:
            main()
        code = exit_.value.code
        return Answer(code if isinstance(code, int) else 0, *capsys.readouterr())

    return call


@pytest.fixture
def lake_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[], None]], None]:
    """Puts `lake` into the working folder: what a function writes once, and copies of it from then on."""

    def put(name: str, write: Callable[[], None]) -> None:
        kept = tmp_path_factory.getbasetemp() / f"lake-{name}"
        if kept.exists():
            shutil.copytree(kept, "lake")
        else:
            write()
            shutil.copytree("lake", kept)

    return put


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> str:
    """PYTHONPATH for programs: the package, with the entry points that pyproject.toml has now."""
    folder = tmp_path_factory.mktemp("installed")
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    info = folder / "entrenar_otel-0.0.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: entrenar-otel\nVersion: 0.0.0\n")
    sections = [
        "\n".join([f"[{group}]", *(f"{name} = {value}" for name, value in points.items())])
        for group, points in project["entry-points"].items()
    ]
    (info / "entry_points.txt").write_text("\n".join(sections))
    package = Path(entrenar_otel.__file__).parents[1]  # of a wheel: site-packages
    return os.pathsep.join(map(str, (package, package / "processors", package / "native", folder)))


@pytest.fixture(params=["python", "native"])
def core(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each test of recording is one of the reference and of the native core; child processes follow."""
    if request.param == "python":
        monkeypatch.setattr(entrenar_native, "core", None)
        monkeypatch.setenv("ENTRENAR_NATIVE", "0")
    elif entrenar_native.core is None:
        pytest.skip("NOT TESTED HERE: no native core")
    return str(request.param)


@pytest.fixture
def segment_size(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Sets the size of the segments made from now on."""
    create = Segment.create
    return lambda size: monkeypatch.setattr(Segment, "create", partial(create, size=size))


@pytest.fixture
def start() -> Callable[..., Monitor]:
    """Starts a run in `lake` whose heartbeat is the test's, unless it gives an interval."""

    def start_run(run_id: str = "r", **settings: Any) -> Monitor:
        given = {"lake": "lake", "quiet": True, "settings_file": None, "interval_seconds": 1e5, **settings}
        return Monitor(run_id, **given).start()

    return start_run


@pytest.fixture
def wait_until() -> Callable[..., None]:
    """Waits until something is true, and fails where it does not become so."""

    def wait(true: Callable[[], Any], timeout_seconds: float = 100.0, every_seconds: float = 0.005) -> None:
        end = time.monotonic() + timeout_seconds
        while not true():
            assert time.monotonic() < end, "did not happen in time"
            time.sleep(every_seconds)

    return wait


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for loopback, signed by itself, and its key."""
    folder = tmp_path_factory.mktemp("certificate")
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -keyout key.pem -out cert.pem "
        "-subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1"
    )
    subprocess.run(command.split(), cwd=folder, check=True, capture_output=True)
    return folder / "cert.pem", folder / "key.pem"


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """The URL of a bucket on an S3 server, with `{}` for a folder in it."""
    port = free_port()
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
    )
    try:
        for _ in range(300):
            try:
                bucket = urllib.request.Request(f"http://127.0.0.1:{port}/lake", method="PUT")
                urllib.request.urlopen(bucket, timeout=5).close()
                break
            except OSError:
                time.sleep(0.1)
        yield f"s3://key:secret@lake/{{}}?endpoint_override=127.0.0.1:{port}&scheme=http&region=us-east-1"
    finally:
        server.terminate()
        server.wait()


@pytest.fixture(params=["python", "native"])
def each_core(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The test runs twice: in pure Python, then with the native core, which has to do the same."""
    if request.param == "native":
        if entrenar_native.core is None:
            pytest.skip(f"NOT TESTED HERE: no native core ({entrenar_native.state()})")
    else:
        monkeypatch.setattr(entrenar_native, "core", None)
    return str(request.param)
