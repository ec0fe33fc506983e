"""GpuUsage through NVIDIA's own Python bindings, in processes that load a small NVML made for this test.

No GPU is here: what is real is nvidia-ml-py, its errors and the calls across the C interface. The library
behind them (fake_nvml.c) has two GPUs, and a file by which one is lost, hangs or is partitioned.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SOURCE = Path(__file__).with_name("fake_nvml.c")
#: Reads as often as lines come, and answers with what was found and logged.
CHILD = """
import json, logging, os, sys
from entrenar_otel.system.gpu_usage import GpuUsage
from entrenar_otel.system.readings import Readings

logged = []
class Keep(logging.Handler):
    def emit(self, record):
        logged.append([record.levelname, record.getMessage()])
logging.getLogger("entrenar_otel").addHandler(Keep())
logging.getLogger("entrenar_otel").setLevel(logging.DEBUG)
gpus, readings = GpuUsage.find(), Readings()
for state in sys.argv[1:]:
    with open(os.environ["FAKE_NVML"], "w") as file:
        file.write(state)
    if gpus is not None:
        gpus.read(readings)
    found = {str(series): value for series, value in readings.take().items()}
    print(json.dumps([found, logged]))
    logged.clear()
if gpus is not None:
    gpus.close()
"""

Read = Callable[..., list[Any]]


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("NOT TESTED HERE: NVML across its C interface, without a C compiler")
    pytest.importorskip("pynvml", reason="NOT TESTED HERE: GPUs, without nvidia-ml-py")
    folder = tmp_path_factory.mktemp("nvml")
    target = folder / "libnvidia-ml.so.1"
    subprocess.run([compiler, "-shared", "-fPIC", "-Wall", "-Werror", SOURCE, "-o", target], check=True)
    return folder


@pytest.fixture
def environ(library: Path, tmp_path: Path) -> dict[str, str]:
    (tmp_path / "state").write_text("")
    return {**os.environ, "LD_LIBRARY_PATH": str(library), "FAKE_NVML": str(tmp_path / "state")}


@pytest.fixture
def read(environ: dict[str, str]) -> Read:
    def run(*states: str, **more: str) -> list[Any]:
        done = subprocess.run(
            [sys.executable, "-c", CHILD, *states], env=environ | more, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    return run


def tags(index: int) -> str:
    return f'hw.id="GPU-{str(index) * 4}",hw.name="gpu{index}",hw.type="gpu"'


def test_two_gpus(read: Read) -> None:
    (first, _), (second, logged) = read("ok", "ok")
    zero = tags(0)
    assert second == {
        f"hw.gpu.utilization{{{zero}}}": 0.75,
        f"hw.gpu.memory.usage{{{zero}}}": float(20 << 30),
        f"hw.gpu.memory.limit{{{zero}}}": float(80 << 30),
        f"hw.gpu.memory.utilization{{{zero}}}": 0.25,
        f"hw.power{{{zero}}}": 350.5,
        f"hw.energy{{{zero}}}": 2.5,
        f"hw.temperature{{{zero}}}": 61.0,
        f"hw.gpu.utilization{{{tags(1)}}}": 0.76,
        f"hw.gpu.memory.usage{{{tags(1)}}}": float(20 << 30),
        f"hw.gpu.memory.limit{{{tags(1)}}}": float(80 << 30),
        f"hw.gpu.memory.utilization{{{tags(1)}}}": 0.25,
        f"hw.power{{{tags(1)}}}": 350.5,
        f"hw.energy{{{tags(1)}}}": 2.5,
        f"hw.temperature{{{tags(1)}}}": 61.0,
    }
    assert first == {name: value for name, value in second.items() if not name.startswith("hw.energy")}
    assert logged == []


def test_a_gpu_that_vanishes_is_said_once_and_the_other_goes_on(read: Read) -> None:
    before, lost, after, back = read("ok", "lost", "lost", "ok")
    assert any("GPU-1111" in name for name in before[0])
    for found, _ in (lost, after, back):
        assert found
        assert all("GPU-0000" in name for name in found)
    ((level, message),) = lost[1]
    assert level == "WARNING"
    assert "gpu1 (GPU-1111) is lost: NVML says 'GPU is lost'" in message
    assert after[1] == back[1] == []


def test_a_partitioned_gpu_says_less(read: Read) -> None:
    (_, said), (second, again) = read("mig", "mig")
    assert not any(name.startswith("hw.gpu.utilization") and "GPU-0000" in name for name in second)
    assert any(name.startswith("hw.power") and "GPU-0000" in name for name in second)
    assert [level for level, _ in said] == ["DEBUG"]
    assert again == []


def test_one_number_that_fails_once(read: Read) -> None:
    (first, _), (second, _) = read("power", "ok")
    name = f"hw.power{{{tags(0)}}}"
    assert name not in first
    assert second[name] == 350.5


def test_no_driver(environ: dict[str, str], read: Read) -> None:
    Path(environ["FAKE_NVML"]).write_text("none")
    ((found, logged),) = read("none")
    assert found == {}
    ((level, message),) = logged
    assert level == "DEBUG"
    assert "GPUs are not read" in message


def test_no_library(read: Read) -> None:
    ((found, logged),) = read("ok", LD_LIBRARY_PATH="")
    if shutil.which("nvidia-smi") is None:
        assert found == {}
        assert [level for level, _ in logged] == ["DEBUG"]


def test_without_the_bindings(read: Read, tmp_path: Path) -> None:
    """The extra is not installed: one line at debug that says how it would be."""
    (tmp_path / "pynvml.py").write_text("raise ModuleNotFoundError(\"No module named 'pynvml'\")\n")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    ((found, logged),) = read("ok", PYTHONPATH=path)
    assert found == {}
    ((level, message),) = logged
    assert level == "DEBUG"
    assert "pip install 'entrenar-otel[gpu]'" in message


def test_a_run_whose_driver_hangs(environ: dict[str, str], tmp_path: Path) -> None:
    """The run goes on, ends, and has everything but its GPUs from then on."""
    script = tmp_path / "train.py"
    script.write_text(
        textwrap.dedent(
            """
            import os, time
            from entrenar_otel import Monitor
            with Monitor(run_id="r", lake="lake", live="live") as monitor:
                for step in range(100_000):
                    monitor.log(loss=1.0, step=step)
                    time.sleep(0.01)
                    if step % 50 == 0:
                        sql = "SELECT metric, count(*) AS n FROM metrics GROUP BY 1"
                        found = monitor.query(sql).to_pydict()
                        counts = dict(zip(found["metric"], found["n"]))
                        if min(counts.get(name, 0) for name in ("hw.power", "process.memory.usage")) >= 2:
                            break
                with open(os.environ["FAKE_NVML"], "w") as file:
                    file.write("hang")
                time.sleep(1.5)
            """
        )
    )
    (tmp_path / "renacer.toml").write_text("[monitor.system]\ninterval_seconds = 1\n")
    environ |= {"ENTRENAR_SYSTEM_METRICS": "1"}
    done = subprocess.run([sys.executable, script], cwd=tmp_path, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    from entrenar_otel.lake import Lake

    lake = Lake(tmp_path / "lake")
    assert [run.state for run in lake.runs()] == ["completed"]
    found = lake.query("SELECT DISTINCT metric FROM metrics", run_id="r")["metric"].to_pylist()
    assert {"hw.power", "hw.gpu.utilization", "process.memory.usage", "system.cpu.utilization"} <= {*found}
