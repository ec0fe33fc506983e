"""Collector: what it costs to pass samples on, with a queue on disk and without, in blocks and wide events.

The Collector of collector-config/ as a process, from agent.yaml (which passes on, and keeps nothing) and
from gateway.yaml (a queue with fsync). Threads of this process send it log records, an endpoint of this
process takes everything from it. Its CPU time (user and system) until the last request has come out.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from time import perf_counter
from typing import TYPE_CHECKING

import grpc

from benchmarks.harness import METRICS, Row, temporary

if TYPE_CHECKING:
    from tests.collector.process import Collector

SERVICE = "opentelemetry.proto.collector.logs.v1.LogsService"
#: Steps a request, of five values each, and requests.
SIZES = ((10, 4_000), (500, 800))
THREADS = 4
MODES = ("blocks", "events")
#: Where the samples go, by configuration.
WAYS = {"agent.yaml": "GATEWAY_ENDPOINT", "gateway.yaml": "SINK_ENDPOINT"}


def measure() -> Iterator[Row]:
    from tests.collector.process import Collector, collector_binary

    binary = collector_binary()
    for config, endpoint in WAYS.items():
        for mode in MODES:
            for steps, count in SIZES:
                with temporary() as folder, _everything_is_taken() as (port, taken):
                    made = Collector(binary, folder, config, **{endpoint: f"127.0.0.1:{port}"}).start()
                    try:
                        yield _row(made, config, mode, steps, count, taken)
                    finally:
                        made.kill()


def _row(
    collector: Collector, config: str, mode: str, steps: int, count: int, taken: Callable[[], int]
) -> Row:
    bodies = [_request(mode, number * steps, steps) for number in range(8)]
    for body in bodies:  # connections and caches are not what is measured
        _send(collector.address, [body])
    _wait(lambda: taken() == len(bodies))
    before, begun = collector.cpu_seconds(), perf_counter()
    share = [(bodies * count)[: count // THREADS]] * THREADS
    threads = [threading.Thread(target=_send, args=(collector.address, mine)) for mine in share]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wall = perf_counter() - begun
    _wait(lambda: taken() == len(bodies) + count)
    spent = collector.cpu_seconds() - before
    values = steps * len(METRICS)
    kept = "fsynced queue" if config == "gateway.yaml" else "no queue"
    return Row(
        f"Collector, {kept}, {mode}, {values:,} values a request ({len(bodies[0]):,} B): CPU a sample",
        None,
        1e9 * spent / (count * values),
        "ns",
        f"{count * values / spent:,.0f} samples/s/core, {count / spent:,.0f} requests/s/core; "
        f"{count / wall:,.0f} requests a second acknowledged to {THREADS} senders",
    )


def _wait(true: Callable[[], bool]) -> None:
    end = perf_counter() + 300
    while not true():
        if perf_counter() > end:
            raise TimeoutError("requests did not come out of the Collector")
        time.sleep(0.01)


def _send(address: str, bodies: list[bytes]) -> None:
    with grpc.insecure_channel(address) as channel:
        call = channel.unary_unary(f"/{SERVICE}/Export")
        for body in bodies:
            call(body, timeout=60)


def _request(mode: str, first: int, steps: int) -> bytes:
    """As a run sends it."""
    from tests.sink.wire import logs, resource, wide_record
    from tests.sink.wire import steps as blocks

    if mode == "blocks":
        return logs(blocks(first, steps), resource())
    records = [
        wide_record(step, {f"metric.{name}": step / (2 + number) for number, name in enumerate(METRICS)})
        for step in range(first, first + steps)
    ]
    return logs(records, resource())


@contextmanager
def _everything_is_taken() -> Iterator[tuple[int, Callable[[], int]]]:
    """An endpoint: its port, and how many requests it has taken."""
    taken: list[None] = []

    def export(_request: bytes, _context: grpc.ServicerContext) -> bytes:
        taken.append(None)
        return b""

    method = grpc.unary_unary_rpc_method_handler(export)
    server = grpc.server(ThreadPoolExecutor(8), options=[("grpc.max_receive_message_length", 64 << 20)])
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {"Export": method}),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield port, lambda: len(taken)
    finally:
        server.stop(None)
