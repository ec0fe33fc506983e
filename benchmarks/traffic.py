"""Traffic: what one trainer sends, idle and at 10, 100 and 1,000 steps a second, and what it takes in a lake.

Real runs, one process each and side by side, that log five values a step within `epochs` and `steps`, with
samples as blocks; an endpoint of this process counts requests and their bytes by signal. Then what an hour of
such a run takes in a sink's lake: its requests, four seconds of them in each file of the log, are rolled, and
merged as a sink does.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import grpc

from benchmarks.harness import METRICS, ROOT, Row, temporary, training_samples
from entrenar_otel.lake.store.storage import LocalStorage
from entrenar_otel.sink.roller import Roller

#: Steps a second.
RATES = (0, 10, 100, 1_000)
#: Before what is measured, and what is measured: a run that is idle says something once a minute.
_FIRST_SECONDS, _SECONDS = 15.0, 120.0
#: Of which an hour is stored, and how often.
_HOURS = (10, 100)
_ROLL_SECONDS = 4
_SERVICES = {
    "logs": "opentelemetry.proto.collector.logs.v1.LogsService",
    "metrics": "opentelemetry.proto.collector.metrics.v1.MetricsService",
    "traces": "opentelemetry.proto.collector.trace.v1.TraceService",
}
_TRAINER = """
import sys, time
from entrenar_otel import Monitor
per_second, seconds = float(sys.argv[1]), float(sys.argv[2])
begun = time.monotonic()
with Monitor("r", model_id="digits", config={"lr": 0.1}, quiet=True, settings_file=None) as monitor:
    if not per_second:
        time.sleep(seconds)
    i = 0
    for epoch in monitor.epochs(int(1e6)):
        if time.monotonic() > begun + seconds:
            break
        for step in monitor.steps(range(max(1, int(60 * per_second)))):  # an epoch a minute
            if not per_second or time.monotonic() > begun + seconds:
                break
            x = 1 / (1 + i) + 1e-3 * (i * 7919 % 101) / 101
            monitor.log(loss=x, accuracy=1 - x, grad_norm=x / 3, learning_rate=0.1, throughput=1e3 + x)
            i += 1
            time.sleep(max(0.0, begun + i / per_second - time.monotonic()))
"""


def measure() -> Iterator[Row]:
    for rate, sent in zip(RATES, _sent(), strict=True):
        count, size = sum(sent.requests.values()), sum(sent.size.values())
        told = "; ".join(
            f"{name} {sent.requests[name] / _SECONDS:.2f} requests/s, {sent.size[name] / _SECONDS:,.0f} B/s"
            for name in _SERVICES
        )
        what = f"traffic: a trainer at {rate:,} steps/s sends" if rate else "traffic: an idle trainer sends"
        yield Row(what, None, size / _SECONDS, "B/s", f"{count / _SECONDS:.2f} requests/s ({told})")
    for rate in _HOURS:
        yield _hour(rate)


class _Sent:
    """What one endpoint has taken."""

    def __init__(self) -> None:
        self.requests: Counter[str] = Counter()
        self.size: Counter[str] = Counter()

    def take(self, signal: str, request: bytes) -> bytes:
        self.requests[signal] += 1
        self.size[signal] += len(request)
        return b""

    def clear(self) -> None:
        self.requests.clear()
        self.size.clear()


def _sent() -> list[_Sent]:
    with temporary() as folder, ExitStack() as stack:
        sent = [_Sent() for _ in RATES]
        trainers = []
        for rate, one in zip(RATES, sent, strict=True):
            own = folder / str(rate)
            environ = os.environ | {
                "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{stack.enter_context(_endpoint(one))}",
                "ENTRENAR_OTLP_SAMPLES": "blocks",
                "ENTRENAR_LAKE": str(own / "lake"),
                "ENTRENAR_LIVE": str(own / "live"),
            }
            seconds = _FIRST_SECONDS + _SECONDS + 15
            command = [sys.executable, "-c", _TRAINER, str(rate), str(seconds)]
            trainers.append(subprocess.Popen(command, env=environ, cwd=ROOT))
        time.sleep(_FIRST_SECONDS)
        for one in sent:
            one.clear()
        time.sleep(_SECONDS)
        measured = [(one.requests.copy(), one.size.copy()) for one in sent]
        if any(trainer.wait() for trainer in trainers):
            raise RuntimeError("a trainer failed, see above")
        for one, (requests, size) in zip(sent, measured, strict=True):
            one.requests, one.size = requests, size
        return sent


@contextmanager
def _endpoint(sent: _Sent) -> Iterator[int]:
    server = grpc.server(ThreadPoolExecutor(2))
    for name, service in _SERVICES.items():

        def export(request: bytes, _context: grpc.ServicerContext, name: str = name) -> bytes:
            return sent.take(name, request)

        method = grpc.unary_unary_rpc_method_handler(export)
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, {"Export": method})])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield port
    finally:
        server.stop(0)


def _hour(rate: int) -> Row:
    from tests.sink.wire import ended, log_file, logs, started
    from tests.sink.wire import steps as blocks

    values = training_samples(3600 * rate).blocks[0].values.tolist()
    most = 0
    with temporary() as folder:
        storage, state = LocalStorage(folder / "lake"), folder / "state"
        roller = Roller(storage, state)
        for second in range(0, 3600, _ROLL_SECONDS):
            requests = [
                logs(
                    [
                        *([] if at else [started()]),
                        *blocks(at * rate, rate, values=values[at * rate :][:rate]),
                    ]
                )
                for at in range(second, second + _ROLL_SECONDS)
            ]
            path = log_file(state, *requests)
            roller.roll(path)
            path.unlink()
            roller.settle()
            most = max(most, len(_metrics(folder)))
        roller.roll(log_file(state, logs([ended()])))
        roller.settle()
        roller.close()
        files = _metrics(folder)
        size = sum(path.stat().st_size for path in files)
    count = 3600 * rate * len(METRICS)
    return Row(
        f"traffic: an hour at {rate:,} steps/s in the lake",
        None,
        size / count,
        "B a value",
        f"{24 * size / 1e6:,.0f} MB a day; {most} files at most, {len(files)} in the end",
    )


def _metrics(folder: Path) -> list[Path]:
    return list((folder / "lake" / "metrics").rglob("*.parquet"))
