"""Roll: from the request log to durable Parquet, CPU time a value, on one core.

One file of the log, as a sink has it after some seconds: requests of one block of 500 steps of five metrics;
the same as wide events; blocks of ten steps. Read, checked, taken apart, told from what is known, written and
synced. Then four seconds of a thousand and of two thousand processes, ten steps a second each and an export
of their metrics: what arrives waits for one roll and is stored by the next, so it is in SQL within ten
seconds where a roll takes five.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from time import perf_counter, process_time

from benchmarks.harness import METRICS, Row, temporary, training_samples
from entrenar_otel.lake.store.storage import LocalStorage
from entrenar_otel.sink.request_log import Signal
from entrenar_otel.sink.roller import Roller

_ROUNDS = 5
#: In one file of the log; of processes that are known already, as in all files but the first.
_PROCESSES = (1_000, 2_000)
_SECONDS = 4


def measure() -> Iterator[Row]:
    yield _row("sink: a value of a block of 500 steps, stored", 1.0, _blocks(400, 500))
    yield _row("sink: a value of a wide event, stored", 2.5, _wide(60, 500))
    yield _row("sink: a value of a block of 10 steps, stored", None, _blocks(2_000, 10))
    for processes in _PROCESSES:
        yield from _many(processes)


def _blocks(requests: int, steps: int) -> list[bytes]:
    from tests.sink.wire import logs
    from tests.sink.wire import steps as records

    values = training_samples(requests * steps).blocks[0].values.tolist()
    return [
        logs(records(at, steps, values=values[at : at + steps])) for at in range(0, requests * steps, steps)
    ]


def _wide(requests: int, steps: int) -> list[bytes]:
    from tests.sink.wire import logs, wide_record

    values = training_samples(requests * steps).blocks[0].values.tolist()
    names = [f"metric.{name}" for name in METRICS]
    return [
        logs(
            [
                wide_record(step, dict(zip(names, values[step], strict=True)), epoch=0, batch=step)
                for step in range(at, at + steps)
            ]
        )
        for at in range(0, requests * steps, steps)
    ]


def _many(processes: int) -> Iterator[Row]:
    """Their first roll, and the median of those that follow."""
    from tests.sink.wire import log_file

    with temporary() as folder:
        roller = Roller(LocalStorage(folder / "lake"), folder / "state")
        spent = []
        for file in range(1 + _ROUNDS):
            path = log_file(folder / "state", *_four_seconds(processes, file))
            begun, used = perf_counter(), process_time()
            roller.roll(path)
            spent.append((process_time() - used, perf_counter() - begun))
            path.unlink()
        roller.close()
    (first_cpu, first_wall), later = spent[0], sorted(spent[1:])
    cpu, wall = later[len(later) // 2]
    yield Row(
        f"sink: {_SECONDS} seconds of {processes:,} processes, stored",
        5.0,
        cpu,
        "s of CPU",
        f"{1e3 * cpu / processes:.1f} ms a process; {wall:.1f} s of time with the disk's syncs; "
        f"when all are new {first_cpu:.1f} s of CPU, {first_wall:.1f} s of time",
    )


def _four_seconds(processes: int, file: int) -> Iterator[bytes | tuple[Signal, bytes]]:
    """Second by second; each process is a run."""
    from tests.sink.wire import gauge, logs, metrics, resource, started
    from tests.sink.wire import steps as blocks

    for second in range(_SECONDS * file, _SECONDS * (file + 1)):
        records = blocks(10 * second, 10)
        for process in range(processes):
            of = resource(f"sweep-{process}", process=f"p{process}", **{"training.run.attempt": 1})
            yield logs(records if second else [started(), *records], of)
            if second == _SECONDS * file:
                yield metrics(*(gauge(f"training.{name}", 0.5) for name in METRICS), of=of)


def _row(what: str, limit: float | None, requests: list[bytes]) -> Row:
    times = []
    for _ in range(_ROUNDS + 1):  # the first imports what it needs
        with temporary() as folder:
            times.append(_roll(folder, requests))
    cpu, wall, values = min(times[1:])
    size = sum(map(len, requests)) / values
    return Row(
        what,
        limit,
        cpu,
        "µs of CPU",
        f"{1 / cpu:.2f} million values a second and core ({wall:.2f} µs of time with the disk's syncs); "
        f"{values:,} values in {len(requests):,} requests, {size:.1f} B each",
    )


def _roll(folder: Path, requests: list[bytes]) -> tuple[float, float, int]:
    """Microseconds of CPU and of time a value, and how many there were."""
    from tests.sink.wire import log_file

    path = log_file(folder / "state", *requests)
    roller = Roller(LocalStorage(folder / "lake"), folder / "state")
    begun, used = perf_counter(), process_time()
    roller.roll(path)
    used, begun = process_time() - used, perf_counter() - begun
    roller.close()
    return 1e6 * used / roller.samples, 1e6 * begun / roller.samples, roller.samples
