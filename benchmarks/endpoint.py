"""An OTLP endpoint that takes everything and keeps nothing, in a process of its own.

What it costs to receive is not the training's, so it is in none of its threads.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from benchmarks.harness import ROOT

_SERVICES = ("logs.v1.LogsService", "metrics.v1.MetricsService", "trace.v1.TraceService")


@contextmanager
def endpoint() -> Iterator[str]:
    """Its address, for as long as it is there."""
    command = [sys.executable, "-m", "benchmarks.endpoint"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        process.communicate()  # closes its standard input, which ends it


def main() -> None:
    """Say the port, and serve until standard input is closed."""
    import grpc

    method = grpc.unary_unary_rpc_method_handler(lambda _request, _context: b"")
    server = grpc.server(ThreadPoolExecutor(2))
    for service in _SERVICES:
        name = f"opentelemetry.proto.collector.{service}"
        handler = grpc.method_handlers_generic_handler(name, {"Export": method})
        server.add_generic_rpc_handlers((handler,))
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    server.start()
    sys.stdin.read()
    server.stop(None)


if __name__ == "__main__":
    main()
