"""A sink that many large requests reach at once: it takes some, puts the others off, and stays small."""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path

import grpc
import pytest

from entrenar_otel.sink.request_log import Signal
from tests.faults.test_sink import Process, sink  # noqa: F401 - a fixture
from tests.sink.conftest import METHODS, a_request

CLIENTS, MOST_MB = 16, 1000
#: Each alone would take all memory that a sink should have, were all of them read at once.
LARGE = a_request("x" * 1000, records=60_000).SerializeToString()


def peak_mb(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) // 1024


def test_large_requests_at_once_are_put_off_and_memory_stays_bounded(sink: Process) -> None:  # noqa: F811
    sink.start()
    answers: Counter[str] = Counter()
    lock = threading.Lock()

    def send() -> None:
        with grpc.insecure_channel(
            f"127.0.0.1:{sink.port}", [("grpc.max_send_message_length", -1)]
        ) as channel:
            grpc.channel_ready_future(channel).result(60)
            try:
                channel.unary_unary(METHODS[Signal.LOGS])(LARGE, timeout=120)
                answer = "taken"
            except grpc.RpcError as error:
                has_details = "grpc-status-details-bin" in dict(error.trailing_metadata())
                answer = f"{error.code().name} {has_details}"
        with lock:
            answers[answer] += 1

    threads = [threading.Thread(target=send) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(answers) == {"taken", "UNAVAILABLE True"}
    assert sink.process is not None
    peak = peak_mb(sink.process.pid)
    if peak > MOST_MB:
        pytest.fail(f"the sink had {peak} MB")  # 500 are the rule, 16 such requests have 1,000
