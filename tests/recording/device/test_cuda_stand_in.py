"""How a CUDA tensor is copied, with PyTorch's own memory on a stream that a test runs: there is no GPU here.

Real are the slots, their marks, dtypes and views; a stand-in are the stream, and when a copy is done.
"""

from __future__ import annotations

from typing import Any

import pytest

from entrenar_otel.recording.device import host_copy

torch: Any = pytest.importorskip(
    "torch", reason="NOT TESTED HERE: torch is missing; scripts/setup takes its wheel"
)


class Stream:
    """Does what it was given when it is told to."""

    def __init__(self) -> None:
        self.work: list[Any] = []
        self.error: Exception | None = None
        self.capturing = False
        self.asked = 0

    def finish(self) -> None:
        while self.work:
            self.work.pop(0)()

    def query(self) -> bool:
        self.asked += 1
        if self.error is not None:
            raise self.error
        return not self.work


class Slot:
    """A slot whose copy is the stream's to do."""

    def __init__(self, memory: Any, stream: Stream) -> None:
        self.memory, self.stream = memory, stream

    def copy_(self, source: Any, *, non_blocking: bool) -> None:
        assert non_blocking
        self.stream.work.append(lambda: self.memory.copy_(source.as_subclass(torch.Tensor)))

    def __float__(self) -> float:
        return float(self.memory)


class OnDevice(torch.Tensor):  # type: ignore[misc]
    """A tensor that says it is on the GPU."""

    @property
    def device(self) -> Any:
        return torch.device("cuda", 0)

    def record_stream(self, stream: Any) -> None:
        assert isinstance(stream, Stream)


def on_device(value: Any, dtype: Any = None, *, grad: bool = False) -> Any:
    return torch.tensor(value, dtype=dtype).as_subclass(OnDevice).requires_grad_(grad)


@pytest.fixture
def stream(monkeypatch: pytest.MonkeyPatch) -> Stream:
    stream, empty = Stream(), torch.empty

    def unpinned(*size: int, pin_memory: bool, **options: Any) -> Any:
        assert pin_memory
        return empty(*size, **options)

    monkeypatch.setattr(torch, "empty", unpinned)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _device: stream)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: stream.capturing)
    monkeypatch.setattr(host_copy, "_pools", {})
    monkeypatch.setattr(host_copy._Pool, "_target", lambda _self, memory: Slot(memory, stream))
    return stream


KINDS = ["float64", "float32", "float16", "bfloat16", "int64", "int32", "int8", "uint8", "bool"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
def test_its_number_is_there_when_the_stream_has_copied(
    recorder: Any, stream: Stream, kind: str, shape: Any
) -> None:
    value = on_device(1, getattr(torch, kind)).reshape(shape)
    recorder.log(loss=value, lr=0.1)
    recorder.record_ready()
    assert recorder.values() == []
    stream.finish()
    recorder.record_ready()
    assert recorder.values() == [{"loss": 1.0, "lr": 0.1}]
    assert stream.asked == 0, "the heartbeat must call nothing of CUDA's"


def test_a_slot_is_used_again_and_never_by_two(recorder: Any, stream: Stream) -> None:
    """Also where more values wait than there are slots."""
    for turn in range(3):
        recorder.log({f"m{i}": on_device(float(i + turn)) for i in range(600)})
        stream.finish()
        recorder.record_ready()
    assert recorder.values() == [{f"m{i}": float(i + turn) for i in range(600)} for turn in range(3)]
    (pool,) = host_copy._pools.values()
    assert pool.size == 768


@pytest.mark.parametrize("kind", ["float32", "int8", "int64"])
def test_a_value_that_looks_like_the_mark_comes_too(recorder: Any, stream: Stream, kind: str) -> None:
    """When the stream is idle: who waits asks it."""
    words = {"float32": torch.int32, "int8": torch.int8, "int64": torch.int64}[kind]
    mark = torch.tensor(host_copy._EMPTY[words.itemsize], dtype=words).view(getattr(torch, kind))
    recorder.log(x=mark.as_subclass(OnDevice))
    stream.finish()
    recorder.record_ready()
    assert recorder.values() == []
    assert recorder.settle(60.0)
    assert len(recorder.values()) == 1


def test_one_that_is_trained_keeps_no_graph(recorder: Any, stream: Stream) -> None:
    recorder.log(loss=on_device(2.0, grad=True) * 1)
    stream.finish()
    assert recorder.settle(60.0)
    assert recorder.values() == [{"loss": 2.0}]


def test_what_the_gpu_died_of_is_said(
    recorder: Any, stream: Stream, caplog: pytest.LogCaptureFixture
) -> None:
    stream.error = RuntimeError("CUDA error: device-side assert triggered")
    recorder.log(loss=on_device(1.0), lr=0.1)
    assert recorder.settle(60.0)
    assert recorder.values() == [{"lr": 0.1}]
    assert caplog.messages == [
        "loss did not arrive from its device (RuntimeError: CUDA error: device-side assert triggered); "
        "not recorded."
    ]


def test_nothing_is_read_while_a_graph_is_captured(
    recorder: Any, stream: Stream, caplog: pytest.LogCaptureFixture
) -> None:
    stream.capturing = True
    recorder.log(loss=on_device(1.0), lr=0.1)
    assert (recorder.values(), stream.work) == ([{"lr": 0.1}], [])
    assert caplog.messages == [
        "loss was logged while a CUDA graph is captured: log it after the replay; not recorded"
    ]


@pytest.mark.parametrize("value", [[1.0, 2.0], 1j])
def test_what_is_no_number_is_refused_at_once(recorder: Any, stream: Stream, value: Any) -> None:
    recorder.log(loss=on_device(value), lr=0.1)
    assert (recorder.values(), recorder.bad, stream.work) == ([{"lr": 0.1}], 1, [])


def test_a_copy_that_cannot_begin_takes_no_slot(
    recorder: Any, stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then it is read at once: an odd subclass, say."""
    monkeypatch.setattr(OnDevice, "record_stream", None)
    value = on_device(3.0)
    for _ in range(300):
        recorder.log(loss=value)
    assert recorder.values() == [{"loss": 3.0}] * 300
    assert next(iter(host_copy._pools.values())).size == 256


def test_a_tensor_on_the_cpu_is_recorded_at_once(recorder: Any) -> None:
    recorder.log(loss=torch.tensor(1.0, requires_grad=True))
    assert (recorder.values(), recorder.late) == ([{"loss": 1.0}], None)
