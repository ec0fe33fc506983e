"""Host copy: one number on its way from a device to the host, which nobody waits for.

Neither PyTorch nor JAX is imported here: whoever has such a value has imported it.

A CUDA tensor is copied on the stream that is current, as `.item()` does, and not on one of our own: a loop
may change the tensor in place right after (a running total, the output of a CUDA graph), and only on its own
stream is the copy certain to come before that. It is four bytes, which the next kernel does not feel.
"""

from __future__ import annotations

import sys
import threading
from collections import deque
from typing import Any, Protocol

import numpy as np

from entrenar_otel.interruption import from_outside
from entrenar_otel.recording.inputs import number_of

#: What is certain to be on the host already.
PLAIN_TYPES: frozenset[type] = frozenset([float, int, bool, *np.sctypeDict.values()])
#: Slots of pinned memory that are allocated at once.
_SLOTS = 256
#: Bits that no arithmetic yields, by the bytes of a number: as a float they are NaNs with a payload.
_EMPTY = {1: 0x5A, 2: 0x7FA5, 4: 0x7FA5_A5A5, 8: 0x7FF5_A5A5_A5A5_A5A5}


class HostCopy(Protocol):
    """One number that comes."""

    def is_ready(self, *, ask: bool) -> bool:
        """Whether it is there; raises where it will never be. Does not wait.

        `ask`: the device itself may be asked, which is for the thread that waits. Another thread must not:
        a question of any thread breaks the CUDA graph that the loop may be capturing just now.
        """

    def number(self) -> float:
        """The number, once it is ready. Raises whatever its conversion raises."""


class Capturing(RuntimeError):
    """A CUDA graph is being captured: what is computed then has no value yet."""


def copy_of(value: Any) -> HostCopy | None:
    """A copy of this value that has just begun; None where it can be read right away, or not at all.

    What has several elements, is complex, or cannot be copied is left to `number_of`, which says so. Raises
    Capturing.

    >>> copy_of(0.5) is copy_of(np.float32(0.5)) is None
    True
    """
    kind = type(value)
    if kind in PLAIN_TYPES:
        return None
    try:
        if hasattr(kind, "copy_to_host_async") and hasattr(kind, "is_ready"):
            return _of_array(value)
        torch = sys.modules.get("torch")
        if isinstance(value, getattr(torch, "Tensor", ())):
            return _of_tensor(torch, value)
    except Capturing:
        raise
    except Exception as error:  # an odd subclass, a tracer
        if from_outside(error):
            raise
    return None


def is_device_here() -> bool:
    """Whether this process may have values on a device, as far as a look at its modules tells."""
    jax, torch = sys.modules.get("jax"), sys.modules.get("torch")
    if jax is not None:
        return True
    try:
        return bool(torch is not None and (torch.cuda.is_initialized() or torch.backends.mps.is_available()))
    except Exception as error:  # half imported, by another thread
        if from_outside(error):
            raise
        return False


def _of_array(array: Any) -> HostCopy | None:
    if array.size != 1 or getattr(array.dtype, "kind", "") == "c" or array.is_ready():
        return None
    array.copy_to_host_async()
    return ArrayCopy(array)


def _of_tensor(torch: Any, tensor: Any) -> HostCopy | None:
    kind = tensor.device.type
    if kind == "cpu" or tensor.numel() != 1 or tensor.is_complex():
        return None
    if kind == "cuda":
        return CudaCopy(torch, tensor)
    if kind == "mps":
        return MpsCopy(torch, tensor)
    return None


class ArrayCopy:
    """Of a `jax.Array` that is being computed."""

    __slots__ = ("_array",)

    def __init__(self, array: Any) -> None:
        self._array = array

    def is_ready(self, *, ask: bool) -> bool:
        return bool(self._array.is_ready())

    def number(self) -> float:
        return number_of(self._array)


class CudaCopy:
    """Of a CUDA (or ROCm) tensor, into a slot of pinned memory.

    The slot holds a mark that the copy overwrites. So that it has come is seen in memory alone, by any
    thread, without a call of CUDA's.
    """

    __slots__ = ("_number", "_slots", "_stream")

    def __init__(self, torch: Any, tensor: Any) -> None:
        if torch.cuda.is_current_stream_capturing():
            raise Capturing("logged while a CUDA graph is captured")
        tensor = tensor.detach()
        self._slots = _slots_of(torch, tensor.dtype)
        self._number = number = self._slots.take()
        try:
            self._stream = stream = torch.cuda.current_stream(tensor.device)
            tensor.record_stream(stream)  # its memory may belong to another one
            target = self._slots.tensors[number]
            target.copy_(tensor.reshape(()) if tensor.ndim else tensor, non_blocking=True)
        except BaseException:
            self._slots.free.append(number)
            raise

    def is_ready(self, *, ask: bool) -> bool:
        # A stream that is idle has copied, also where the value happens to look like the mark; and it raises
        # what its kernels died of.
        return not self._slots.is_empty(self._number) or (ask and bool(self._stream.query()))

    def number(self) -> float:
        value = float(self._slots.tensors[self._number])
        self._slots.free.append(self._number)  # only now: a copy that failed may still write to it
        return value


class MpsCopy:
    """Of a tensor on Apple's GPU. Only the thread that waits asks for it."""

    __slots__ = ("_event", "_host")

    def __init__(self, torch: Any, tensor: Any) -> None:
        self._host = tensor.detach().to("cpu", non_blocking=True)
        self._event = torch.mps.Event()
        self._event.record()

    def is_ready(self, *, ask: bool) -> bool:
        return ask and bool(self._event.query())

    def number(self) -> float:
        return number_of(self._host)


class _Slots:
    """Pinned host memory for numbers of one dtype; it grows with what waits at once."""

    def __init__(self, torch: Any, dtype: Any) -> None:
        self._torch, self._dtype = torch, dtype
        self._lock = threading.RLock()
        self.free: deque[int] = deque()
        self.tensors: list[Any] = []
        self._words: list[Any] = []
        self._empty = 0

    def take(self) -> int:
        try:
            number = self.free.popleft()
        except IndexError:
            number = self._grow()
        self._words[number // _SLOTS][number % _SLOTS] = self._empty
        return number

    def is_empty(self, number: int) -> bool:
        return bool(self._words[number // _SLOTS][number % _SLOTS] == self._empty)

    def _grow(self) -> int:
        torch = self._torch
        with (
            self._lock,
            torch.inference_mode(False),
        ):  # a tensor made in it could not be written outside of it
            block = torch.empty(_SLOTS, dtype=self._dtype, device="cpu", pin_memory=True)
            size = block.element_size()
            words = block.view({1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[size])
            self._empty = _EMPTY[size]
            first = len(self.tensors)
            self._words.append(words.numpy())
            self.tensors += [block[i] for i in range(_SLOTS)]
        self.free.extend(range(first + 1, first + _SLOTS))
        return first


_slots: dict[Any, _Slots] = {}


def _slots_of(torch: Any, dtype: Any) -> _Slots:
    if (known := _slots.get(dtype)) is None:
        known = _slots.setdefault(dtype, _Slots(torch, dtype))
    return known
