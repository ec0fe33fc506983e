"""Views: what it costs to see a run, as a frame, as a picture, while it goes on, and beside an incident.

One run of 200,000 steps of five metrics, 1,000,000 samples, is in a lake. Times are CPU time, which a busy
machine disturbs least, and the least of several, to which others have added least: of this process's
thread, or of a process of its own with all that it imports. The
peer's user has the same samples in TensorBoard's event file, reads them by its EventAccumulator and draws
the same five curves by matplotlib; both start from what is on the disk, each in a fresh process that has
imported everything. W&B has nothing to compare with: what it draws is drawn by a browser.

While a run goes on: `watch` on a pseudo-terminal of 120 × 40 beside a process that trains, see watching.py;
and in one process, 1,000 steps a second, a view and a frame once a second, for twelve seconds. The stall:
numpy steps of about 0.6 ms while an incident's picture is drawn, by its process as it is done, and by a
thread for comparison, in turns with as many steps without either; the median over the rounds of the ratio
of the 99th percentiles.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from time import perf_counter, process_time, sleep, thread_time
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks.harness import (
    BY_HAND,
    METRICS,
    ROOT,
    Row,
    command_seconds,
    hand_over,
    run_python,
    started,
    temporary,
)
from benchmarks.tick import step_of, steps_while
from benchmarks.watching import watch_beside_training
from entrenar_otel import Monitor
from entrenar_otel.lake import Lake
from entrenar_otel.views.dashboard import Dashboard
from entrenar_otel.views.frame import frame
from entrenar_otel.views.png import save
from entrenar_otel.views.watched import WatchedRun

STEPS = 200_000
_REPEATS = 15
_LIVE_SECONDS = 12
_ROUNDS = 5


def measure() -> Iterator[Row]:
    with temporary() as folder:
        values = _record(folder)
        lake = Lake(folder / "lake", folder / "live")
        view = WatchedRun(lake, "bench").view()
        of_frame = [_cpu_ms(lambda: frame(view, 120, 40)) for _ in range(_REPEATS)]
        yield _row("a frame of a run of 1 M samples", 50.0, of_frame, "ms")
        of_png = [_cpu_ms(lambda: save(view, folder / "run.png")) / 1e3 for _ in range(6)][1:]
        yield _row("a PNG of it, after matplotlib's import", 1.5, of_png, "s")
        once = ["watch", "bench", "--once"]
        yield _command("`watch --once` of it, with start-up", 1.0, folder, once, repeats=5)
        yield from _beside_tensorboard(folder, values)
    with temporary() as folder:
        yield watch_beside_training(folder)
    with temporary() as folder:
        yield _live(folder)
        yield _command("`dashboards build`, with start-up", 2.0, folder, ["dashboards", "build"])
        yield _command("`rules build`, with start-up", 2.0, folder, ["rules", "build"])
    yield from _stalls()


def _row(what: str, limit: float | None, values: list[float], unit: str) -> Row:
    note = f"CPU time, least of {len(values)}; median {np.median(values):.3g}, worst {max(values):.3g} {unit}"
    return Row(what, limit, min(values), unit, note)


def _cpu_ms(work: Callable[[], object]) -> float:
    before = process_time()
    work()
    return 1e3 * (process_time() - before)


def _record(folder: Path) -> np.ndarray:
    """The run, closed; its values, `(STEPS, 5)`."""
    random = np.random.default_rng(7)
    values = np.exp(-np.arange(STEPS) / 50_000)[:, np.newaxis] + 0.05 * random.standard_normal((STEPS, 5))
    with started(folder, **BY_HAND) as monitor:
        log = monitor.bind(*METRICS)
        for step, row in enumerate(values.tolist()):
            log(*row, step=step)
            if step % 50_000 == 49_999:
                hand_over(monitor)
    return values


def _command(what: str, limit: float, folder: Path, arguments: list[str], repeats: int = 3) -> Row:
    return _row(what, limit, command_seconds(folder, arguments, repeats), "s")


# -- beside TensorBoard -------------------------------------------------------------------------


def _beside_tensorboard(folder: Path, values: np.ndarray) -> Iterator[Row]:
    what = "1 M samples on the disk to a PNG ÷ TensorBoard's event file to a PNG"
    try:
        _write_events(folder / "events", values)
        call = "import sys; from benchmarks.views import {name}; {name}(sys.argv[1])"
        ours, theirs = (
            [run_python(call.format(name=name), str(folder), timeout=300) for _ in range(repeats)]
            for name, repeats in (("draw_ours", 3), ("draw_theirs", 1))
        )
    except (ImportError, subprocess.SubprocessError) as error:
        yield Row(what, None, None, "×", f"tensorboard: {error}")
        return
    note = f"ours {min(ours):.2f} s, theirs {min(theirs):.1f} s of CPU time"
    yield Row(what, 1.0, min(ours) / min(theirs), "×", note)


def _write_events(folder: Path, values: np.ndarray) -> None:
    """TensorBoard's own writer of records: its queue for them would be most of the time."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.record_writer import RecordWriter

    folder.mkdir()
    with open(folder / "events.out.tfevents.1.bench", "wb") as file:
        writer = RecordWriter(file)
        writer.write(Event(wall_time=0.0, file_version="brain.Event:2").SerializeToString())
        for step, row in enumerate(values.tolist()):
            for tag, value in zip(METRICS, row, strict=True):
                summary = Summary(value=[Summary.Value(tag=tag, simple_value=value)])
                writer.write(Event(wall_time=float(step), step=step, summary=summary).SerializeToString())
        writer.flush()


def draw_ours(folder: str) -> None:
    """In a process of its own: prints the CPU seconds."""
    import matplotlib.backends.backend_agg
    import matplotlib.figure  # noqa: F401

    import entrenar_otel.views.axes  # noqa: F401

    lake = Lake(Path(folder, "lake"), Path(folder, "live"))
    before = process_time()
    Dashboard(run_id="bench", lake=lake).save_png(Path(folder, "ours.png"))
    print(json.dumps(process_time() - before))


def draw_theirs(folder: str) -> None:
    """As its users do it: read everything, plot everything."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from tensorboard.backend.event_processing.event_accumulator import SCALARS, EventAccumulator

    before = process_time()
    events = EventAccumulator(str(Path(folder, "events")), size_guidance={SCALARS: 0})
    events.Reload()
    figure = Figure(figsize=(11.2, 9.0))
    FigureCanvasAgg(figure)
    for at, tag in enumerate(events.Tags()[SCALARS]):
        scalars = events.Scalars(tag)
        axes = figure.add_subplot(3, 2, at + 1)
        axes.plot([one.step for one in scalars], [one.value for one in scalars], label=tag)
        axes.legend()
    figure.savefig(Path(folder, "theirs.png"), dpi=110)
    print(json.dumps(process_time() - before))


# -- while a run goes on ------------------------------------------------------------------------


def _live(folder: Path) -> Row:
    with started(folder, interval_seconds=1.0) as monitor:
        is_over = threading.Event()
        trainer = threading.Thread(target=_train, args=(monitor, is_over))
        trainer.start()
        watched, shares = WatchedRun(Lake(folder / "lake", folder / "live"), "bench"), []
        for _ in range(_LIVE_SECONDS):
            sleep(1.0)
            before = thread_time()
            frame(watched.view(), 120, 40)
            shares.append(100 * (thread_time() - before))
        is_over.set()
        trainer.join()
    later = shares[2:]
    note = f"CPU time, median of {len(later)} seconds; least {min(later):.1f}, worst {max(later):.1f} %"
    what = "share of a core for a view and a frame once a second"
    return Row(what, 3.0, float(np.median(later)), "%", note)


def _train(monitor: Monitor, is_over: threading.Event) -> None:
    step = 0
    while not is_over.wait(0.1):
        for _ in range(100):
            monitor.log(dict.fromkeys(METRICS, 1 / (1 + step)), step=step)
            step += 1


# -- beside an incident -------------------------------------------------------------------------


def _stalls() -> Iterator[Row]:
    with temporary() as folder, threadpool_limits(1):
        asked = _incident(folder)
        step = step_of(0.6e-3)
        ratios: dict[str, list[float]] = {"process": [], "thread": []}
        worst: dict[str, list[float]] = {"process": [], "thread": [], "nothing": []}
        for _ in range(_ROUNDS):
            for way, call in (("process", _by_process), ("thread", _by_thread)):
                worker = threading.Thread(target=call, args=asked)
                worker.start()
                times = np.array(steps_while(step, worker.is_alive))
                worker.join()
                quiet = np.array(_steps_for(step, float(times.sum())))
                ratios[way].append(float(np.quantile(times, 0.99) / np.quantile(quiet, 0.99)))
                worst[way].append(1e3 * float(times.max()))
                worst["nothing"].append(1e3 * float(quiet.max()))
    told = {way: f"worst step {np.median(ms):.1f} ms" for way, ms in worst.items()}
    yield Row(
        "p99 of a 0.6 ms step while an incident's picture is drawn ÷ without",
        1.5,
        float(np.median(ratios["process"])),
        "×",
        f"{told['process']}; without {told['nothing']} (medians of {_ROUNDS} rounds)",
    )
    note = f"for comparison, not done; {told['thread']}. matplotlib imported in the first round only"
    yield Row("the same, drawn by a thread", None, float(np.median(ratios["thread"])), "×", note)


def _steps_for(step: Callable[[], object], seconds: float) -> list[float]:
    end = perf_counter() + seconds
    return steps_while(step, lambda: perf_counter() < end)


def _incident(folder: Path) -> tuple[dict[str, Any], bytes]:
    """Documents and window of one of a run of 120 s, 100 steps a second, five metrics."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with started(folder, **BY_HAND) as monitor:
        for step in range(12_000):
            monitor.log(dict.fromkeys(METRICS, 1 / (1 + step)), step=step)
        hand_over(monitor)
    rows = Lake(folder / "lake", folder / "live").query("SELECT * FROM metrics", run_id="bench")
    file = io.BytesIO()
    pq.write_table(pa.table(rows), file)
    alert = {"name": "spike", "level": "WARNING", "metric": "loss", "step": 11_000, "started_ns": 0}
    environment = {"run_id": "bench", "rank": 0, "world_size": 1}
    return {"alert": alert, "config": {}, "environment": environment}, file.getvalue()


def _by_process(documents: dict[str, Any], window: bytes) -> None:
    from entrenar_otel.views.incident_process import COMMAND, packed

    subprocess.run(
        [sys.executable, "-P", "-c", COMMAND],
        input=packed(json.dumps(documents).encode()) + packed(window),
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)])},
        stdout=subprocess.DEVNULL,
    )  # where the machine is so busy that it ends itself, its steps count all the same


def _by_thread(documents: dict[str, Any], window: bytes) -> None:
    from entrenar_otel.views.incident import picture

    picture(documents, window)
