"""Receipt: what a sink takes, durably, a core; and how long a sender waits for its acknowledgement.

A sink in a process of its own, with its lake, gets requests by gRPC from threads of this one. Its CPU time
by request, which includes storing what came; at 50,000 samples a second (ten runs that send once a second)
the time from sending to the acknowledgement, in turns with a write of the same bytes and an fdatasync in
the same folder. The peak of its memory: with the backlog of a lake that was away for 2,000,000 samples, and
with many large requests at once.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter

import grpc
import numpy as np
import psutil

from benchmarks.harness import Row, temporary

METHOD = "/opentelemetry.proto.collector.logs.v1.LogsService/Export"
RUNS, SECONDS = 10, 30
#: Steps a request, of five values each, and requests.
SIZES = ((10, 2_000), (500, 1_000), (10_000, 200))
THREADS = 8
#: At once, of 58 MB each.
LARGE = 16


def measure() -> Iterator[Row]:
    with temporary() as folder, _sink(folder) as (port, process):
        for steps, count in SIZES:
            yield _cpu(port, process, steps, count)
    with temporary() as folder, _sink(folder) as (port, process):
        yield _acknowledgement(port, folder)
    with temporary() as folder, _sink(folder) as (port, process):
        yield _memory(port, process, folder)
    with temporary() as folder, _sink(folder) as (port, process):
        yield _large(port, process)


def _cpu(port: int, process: psutil.Process, steps: int, count: int) -> Row:
    bodies = [[_request(f"cpu-{steps}-{run}", n * steps, steps) for n in range(count // THREADS)]
              for run in range(THREADS)]  # fmt: skip
    before, begun = sum(process.cpu_times()[:2]), perf_counter()
    threads = [threading.Thread(target=_send, args=(port, mine)) for mine in bodies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wall = perf_counter() - begun
    time.sleep(8)  # the last roll
    spent = sum(process.cpu_times()[:2]) - before
    done = sum(map(len, bodies))
    return Row(
        f"sink: a durable request of {len(bodies[0][0]):,} B ({steps * 5:,} values), CPU with storing it",
        2.5 if steps < 1_000 else None,
        1e3 * spent / done,
        "ms",
        f"limit: 400 requests/s/core; {done / wall:,.0f} a second from {THREADS} senders; "
        f"{done * steps * 5 / spent:,.0f} values/s/core to durable Parquet",
    )


def _acknowledgement(port: int, folder: Path) -> Row:
    steps = 1_000
    ours: list[float] = []
    raw: list[float] = []
    stops = threading.Event()

    bodies = [[_request(f"ack-{run}", n * steps, steps) for n in range(SECONDS)] for run in range(RUNS)]
    raw_body = bodies[0][0]

    def run(number: int) -> None:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            call = channel.unary_unary(METHOD)
            begun = perf_counter() + number / RUNS
            for n, data in enumerate(bodies[number]):
                time.sleep(max(0.0, begun + n - perf_counter()))
                start = perf_counter()
                call(data, timeout=60)
                ours.append(perf_counter() - start)

    def disk() -> None:
        with open(folder / "raw", "wb", buffering=0) as file:
            while not stops.wait(0.1):
                start = perf_counter()
                file.write(raw_body)
                os.fdatasync(file.fileno())
                raw.append(perf_counter() - start)

    senders = [threading.Thread(target=run, args=(number,)) for number in range(RUNS)]
    beside = threading.Thread(target=disk)
    for thread in (*senders, beside):
        thread.start()
    for thread in senders:
        thread.join()
    stops.set()
    beside.join()
    (ours50, ours99), (raw50, raw99) = (1e3 * np.quantile(each, [0.5, 0.99]) for each in (ours, raw))
    return Row(
        "sink: acknowledgement at 50,000 samples/s, p99",
        raw99 + 10,
        ours99,
        "ms",
        f"limit: raw fdatasync p99 {raw99:.1f} ms + 10 ms; medians: ours {ours50:.1f}, raw {raw50:.1f} ms",
    )


def _memory(port: int, process: psutil.Process, folder: Path) -> Row:
    away = folder / "away"
    (folder / "lake").rename(away)
    (folder / "lake").write_text("no folder")
    steps, count = 2_000, 200
    for run in range(4):
        _send(port, [_request(f"memory-{run}", n * steps, steps) for n in range(count // 4)])
    (folder / "lake").unlink()
    away.rename(folder / "lake")
    end = perf_counter() + 120
    while perf_counter() < end and any(p.stat().st_size > 16 for p in (folder / "state").glob("*.log")):
        time.sleep(0.5)
    peak = _peak_bytes(process.pid)
    return Row(
        "sink: peak of its memory", 512, peak / 2**20, "MB", f"with a backlog of {steps * count * 5:,} values"
    )


def _large(port: int, process: psutil.Process) -> Row:
    """Requests that are together far more than a sink should have in memory."""
    from tests.sink.conftest import a_request

    body = a_request("x" * 1000, records=60_000).SerializeToString()
    answers = Counter[str]()

    def send() -> None:
        options = [("grpc.max_send_message_length", -1)]
        with grpc.insecure_channel(f"127.0.0.1:{port}", options) as channel:
            try:
                channel.unary_unary(METHOD)(body, timeout=120)
                answers["taken"] += 1
            except grpc.RpcError as error:
                answers[error.code().name] += 1

    threads = [threading.Thread(target=send) for _ in range(LARGE)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    time.sleep(8)  # the last roll
    told = ", ".join(f"{count} {answer}" for answer, count in sorted(answers.items()))
    return Row(
        f"sink: peak of its memory, {LARGE} requests of {len(body) // 2**20} MB at once",
        512,
        _peak_bytes(process.pid) / 2**20,
        "MB",
        told,
    )


def _send(port: int, bodies: list[bytes]) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary(METHOD)
        for body in bodies:
            call(body, timeout=60)


def _peak_bytes(pid: int) -> int:
    text = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in text.splitlines() if line.startswith("VmHWM")).split()[1]) * 1024


def _request(run_id: str, first: int, steps: int) -> bytes:
    """A block, as a run sends it."""
    from tests.sink.wire import logs, resource, started
    from tests.sink.wire import steps as records

    return logs([started(), *records(first, steps)], resource(run_id, process=run_id))


@contextmanager
def _sink(folder: Path) -> Iterator[tuple[int, psutil.Process]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["-m", "entrenar_otel.cli.main", "sink", "--lake", "lake", "--state", "state", "--http", ""]
    environ = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    child = subprocess.Popen(
        [sys.executable, *command, "--grpc", f"127.0.0.1:{port}"],
        cwd=folder,
        env=environ,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stderr is not None
    child.stderr.readline()  # it listens
    threading.Thread(target=child.stderr.read, daemon=True).start()
    try:
        yield port, psutil.Process(child.pid)
    finally:
        child.terminate()
        child.wait()
