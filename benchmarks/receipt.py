"""Receipt: what a sink takes, durably, a core; and how long a sender waits for its acknowledgement.

A sink in a process of its own gets requests by gRPC from threads of this one, while its lake is away: its CPU
time by request is that of receiving. Beside it a server that only receives the same bytes, writes and syncs
them. Then the lake is there again: the CPU time of storing. At 50,000 samples a second (ten runs that send
once a second) the time from sending to the acknowledgement, in turns with a write of the same bytes and an
fdatasync in the same folder, and from the last of them to SQL. The peak of its memory: with the backlog of a
lake that was away for 2,000,000 samples, and with many large requests at once.
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
from entrenar_otel.lake import Lake

METHOD = "/opentelemetry.proto.collector.logs.v1.LogsService/Export"
RUNS, SECONDS = 10, 30
#: Steps a request, of five values each, and requests.
SIZES = ((10, 2_000), (500, 1_000), (10_000, 256), (40_000, 64))
THREADS = 8
#: At once, of 58 MB each.
LARGE = 16
#: A server that does with a request what nobody can do without.
BARE = """
import os, sys
from concurrent.futures import ThreadPoolExecutor
import grpc

file = os.open("raw", os.O_WRONLY | os.O_CREAT)

def export(data, context):
    os.write(file, data)
    os.fdatasync(file)
    return b""

server = grpc.server(ThreadPoolExecutor(32), options=[("grpc.max_receive_message_length", 64 << 20)])
handlers = {"Export": grpc.unary_unary_rpc_method_handler(export)}
service = "opentelemetry.proto.collector.logs.v1.LogsService"
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
server.add_insecure_port(f"127.0.0.1:{sys.argv[1]}")
server.start()
print("it listens", file=sys.stderr, flush=True)
server.wait_for_termination()
"""


def measure() -> Iterator[Row]:
    for steps, count in SIZES:
        bodies = [
            [_request(f"cpu-{run}", n * steps, steps) for n in range(count // THREADS)]
            for run in range(THREADS)
        ]
        with temporary() as folder, _bare(folder) as (port, process):
            bare = _cpu_seconds(port, process, bodies)
        with temporary() as folder, _sink(folder) as (port, process):
            yield from _cpu(port, process, folder, bodies, bare, steps)
    with temporary() as folder, _sink(folder) as (port, process):
        yield from _acknowledgement(port, folder)
    with temporary() as folder, _sink(folder) as (port, process):
        yield _memory(port, process, folder)
    with temporary() as folder, _sink(folder) as (port, process):
        yield _large(port, process)


def _cpu(
    port: int, process: psutil.Process, folder: Path, bodies: list[list[bytes]], bare: float, steps: int
) -> Iterator[Row]:
    count, size = sum(map(len, bodies)), len(bodies[0][0])
    with _lake_away(folder):
        spent = _cpu_seconds(port, process, bodies)
    yield Row(
        f"sink: to receive {size:,} B durably, CPU",
        2.5,
        1e3 * spent / count,
        "ms",
        f"limit: 400 requests/s/core; {spent / bare:.2f} times a server that only receives, writes and syncs "
        f"the same bytes ({1e3 * bare / count:.2f} ms)",
    )
    before = sum(process.cpu_times()[:2])
    _wait_until_stored(folder)
    stored = sum(process.cpu_times()[:2]) - before
    yield Row(
        f"sink: a value, from receipt to durable Parquet, requests of {size:,} B, CPU",
        1.0 if steps == 500 else None,
        1e6 * (spent + stored) / (count * steps * 5),
        "µs",
        f"limit: 1,000,000 values/s/core; {count * steps * 5 / (spent + stored):,.0f} here",
    )


def _cpu_seconds(port: int, process: psutil.Process, bodies: list[list[bytes]]) -> float:
    """What a server's process uses while it gets these, each list on a thread of its own."""
    before = sum(process.cpu_times()[:2])
    threads = [threading.Thread(target=_send, args=(port, mine)) for mine in bodies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return float(sum(process.cpu_times()[:2]) - before)


@contextmanager
def _lake_away(folder: Path) -> Iterator[None]:
    away = folder / "away"
    (folder / "lake").rename(away)
    (folder / "lake").write_text("no folder")
    yield
    (folder / "lake").unlink()
    away.rename(folder / "lake")


def _wait_until_stored(folder: Path) -> None:
    end = perf_counter() + 120
    while perf_counter() < end and any(p.stat().st_size > 16 for p in (folder / "state").glob("*.log")):
        time.sleep(0.5)
    time.sleep(1.0)  # what has time


def _acknowledgement(port: int, folder: Path) -> Iterator[Row]:
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
    begun = perf_counter()
    while _count(folder) < RUNS * SECONDS * steps * 5:
        time.sleep(0.2)
    waited = perf_counter() - begun
    stops.set()
    beside.join()
    (ours50, ours99), (raw50, raw99) = (1e3 * np.quantile(each, [0.5, 0.99]) for each in (ours, raw))
    yield Row(
        "sink: acknowledgement at 50,000 samples/s, p99",
        raw99 + 10,
        ours99,
        "ms",
        f"limit: raw fdatasync p99 {raw99:.1f} ms + 10 ms; medians: ours {ours50:.1f}, raw {raw50:.1f} ms",
    )
    yield Row("sink: from the last acknowledgement to SQL", 10.0, waited, "s", "every value is found")


def _count(folder: Path) -> int:
    found = Lake(folder / "lake", live=folder / "none").query("SELECT count(*) AS n FROM metrics")
    return int(found["n"][0].as_py())


def _memory(port: int, process: psutil.Process, folder: Path) -> Row:
    steps, count = 2_000, 200
    with _lake_away(folder):
        for run in range(4):
            _send(port, [_request(f"memory-{run}", n * steps, steps) for n in range(count // 4)])
    _wait_until_stored(folder)
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
    command = ["-m", "entrenar_otel.cli.main", "sink", "--lake", "lake", "--state", "state", "--http", ""]
    with _server(folder, [*command, "--grpc", "127.0.0.1:{}"]) as found:
        yield found


@contextmanager
def _bare(folder: Path) -> Iterator[tuple[int, psutil.Process]]:
    with _server(folder, ["-c", BARE, "{}"]) as found:
        yield found


@contextmanager
def _server(folder: Path, command: list[str]) -> Iterator[tuple[int, psutil.Process]]:
    """A process of Python that says a line when it listens on the port that it is given for `{}`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    child = subprocess.Popen(
        [sys.executable, *(part if part == BARE else part.format(port) for part in command)],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stderr is not None
    child.stderr.readline()
    threading.Thread(target=child.stderr.read, daemon=True).start()
    try:
        yield port, psutil.Process(child.pid)
    finally:
        child.terminate()
        child.wait()
