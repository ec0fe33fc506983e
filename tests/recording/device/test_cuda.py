"""A CUDA tensor: `log` does not wait, by PyTorch's own check. Runs where there is a GPU."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

torch: Any = pytest.importorskip("torch", reason="NOT TESTED HERE: values on a GPU, torch is missing")
pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="NOT TESTED HERE: values on a GPU, there is none"
)
#: GPU cycles of work before a value is there: about 0.2 s.
BUSY = 300_000_000


@pytest.fixture
def no_waiting() -> Iterator[None]:
    """Whatever synchronises raises."""
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    yield
    torch.cuda.set_sync_debug_mode("default")


@pytest.mark.usefixtures("no_waiting")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "float64", "int64", "bool"])
@pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
def test_a_value_comes_from_behind_the_work_in_progress(recorder: Any, dtype: str, shape: Any) -> None:
    value = torch.ones(shape, device="cuda").to(getattr(torch, dtype))
    torch.cuda._sleep(BUSY)
    recorder.log(loss=value * 1, lr=0.1)
    recorder.record_ready()
    assert recorder.values() == []
    assert recorder.settle(60.0)
    assert recorder.values() == [{"loss": 1.0, "lr": 0.1}]


@pytest.mark.usefixtures("no_waiting")
def test_a_tensor_that_is_changed_afterwards_has_its_value_of_then(recorder: Any) -> None:
    total = torch.zeros((), device="cuda", requires_grad=False)
    for step in range(3):
        torch.cuda._sleep(BUSY // 10)
        total += 1
        recorder.log({f"total{step}": total})
    total.zero_()
    assert recorder.settle(60.0)
    assert recorder.values() == [{f"total{step}": step + 1.0} for step in range(3)]


def test_another_thread_looks_while_a_graph_is_captured(
    recorder: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """The heartbeat's look breaks no capture; and what is logged in it is refused with words."""
    x = torch.ones(8, device="cuda")
    recorder.log(loss=x.sum())
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        y = x.sum()
        recorder.record_ready()
        recorder.log(other=y)
    graph.replay()
    recorder.log(other=y)
    assert recorder.settle(60.0)
    assert recorder.values() == [{"loss": 8.0}, {"other": 8.0}]
    assert "other was logged while a CUDA graph is captured" in caplog.messages[0]


def test_no_call_of_cuda_waits_in_the_profiler(recorder: Any) -> None:
    """And what a call costs is printed: at most 10 µs are promised."""
    x = torch.ones((), device="cuda")
    log: Callable[..., None] = recorder.log
    took = []
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        for step in range(100):
            recorder.move_to(step, step)
            log(loss=x)
    assert not [event.key for event in profile.key_averages() if "Synchronize" in event.key]
    for step in range(2000):
        recorder.move_to(step, step)
        start = time.perf_counter_ns()
        log(loss=x)
        took.append(time.perf_counter_ns() - start)
    print(f"log(loss=<CUDA tensor>): {statistics.median(took) / 1000:.1f} µs")
    assert recorder.settle(60.0)
