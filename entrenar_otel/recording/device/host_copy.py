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
from collections.abc import Callable
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

    def release(self) -> None:
        """The number was taken: what it came through may serve another one."""


class Capturing(RuntimeError):
    """A CUDA graph is being captured: what is computed then has no value yet."""


#: How the copy of a value of this type begins. Only what is known to be such a value is kept.
_beginnings: dict[type, Callable[[Any], HostCopy | float | None]] = {}
_MAX_BEGINNINGS = 1000
#: Types whose values are a number or are refused, without a look at anything but their type.
KNOWN_TYPES: set[type] = {*PLAIN_TYPES}


def copy_of(value: Any) -> HostCopy | float | None:
    """A copy of this value that has just begun, or its number where that is on the host already.

    None: no tensor, or one that has several elements, is complex, or cannot be copied; `number_of` says so.
    Raises Capturing.

    >>> copy_of(0.5) is copy_of(np.float32(0.5)) is None
    True
    """
    kind = type(value)
    if kind in PLAIN_TYPES:
        return None
    try:
        begin = _beginnings.get(kind) or _beginning_of(value)
        return None if begin is None else begin(value)
    except Capturing:
        raise
    except Exception as error:  # an odd subclass, a tracer
        if from_outside(error):
            raise
    return None


def _beginning_of(value: Any) -> Callable[[Any], HostCopy | float | None] | None:
    kind = type(value)
    begin: Callable[[Any], HostCopy | float | None]
    if hasattr(kind, "copy_to_host_async") and hasattr(kind, "is_ready"):
        begin = _of_array
    elif isinstance(value, getattr(sys.modules.get("torch"), "Tensor", ())):
        begin = _of_tensor
    else:
        return None
    if len(_beginnings) < _MAX_BEGINNINGS:
        _beginnings[kind] = begin
        KNOWN_TYPES.add(kind)
    return begin


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


def _of_array(array: Any) -> HostCopy | float | None:
    if array.size != 1 or getattr(array.dtype, "kind", "") == "c":
        return None
    copy = ArrayCopy(array)
    if array.is_ready():
        return copy.number()
    array.copy_to_host_async()
    return copy


def _of_tensor(tensor: Any) -> HostCopy | float | None:
    kind = tensor.device.type
    if tensor.numel() != 1 or tensor.is_complex():
        return None
    if kind == "cpu":
        return float(tensor.item())
    torch = sys.modules["torch"]
    if kind == "cuda":
        return _of_cuda_tensor(torch, tensor)
    if kind == "mps":
        return MpsCopy(torch, tensor)
    return None


def _of_cuda_tensor(torch: Any, tensor: Any) -> CudaCopy:
    if torch.cuda.is_current_stream_capturing():
        raise Capturing("logged while a CUDA graph is captured")
    if tensor.requires_grad:
        tensor = tensor.detach()
    if (pool := _pools.get(tensor.dtype)) is None:
        pool = _pools.setdefault(tensor.dtype, _Pool(torch, tensor.dtype))
    copy = pool.take()
    try:
        copy.begin(torch.cuda.current_stream(tensor.device), tensor)
    except BaseException:
        copy.release()
        raise
    return copy


class ArrayCopy:
    """Of a `jax.Array` that is being computed."""

    __slots__ = ("_array",)

    def __init__(self, array: Any) -> None:
        self._array = array

    def is_ready(self, *, ask: bool) -> bool:
        return bool(self._array.is_ready())

    def number(self) -> float:
        array = self._array
        return float(array.item() if array.ndim else array)

    def release(self) -> None:
        """It is nobody else's."""


class CudaCopy:
    """Of a CUDA (or ROCm) tensor, into a slot of pinned memory; the slot and this object serve again.

    The slot holds a mark that the copy overwrites. So that it has come is seen in memory alone, by any
    thread, without a call of CUDA's.
    """

    __slots__ = ("_at", "_mark", "_numbers", "_pool", "_stream", "_target", "_words")

    def __init__(
        self,
        pool: deque[CudaCopy],
        target: Any,
        at: int,
        words: memoryview,
        numbers: memoryview | None,
        mark: int,
    ) -> None:
        self._pool = pool
        self._target, self._at = target, at
        self._words, self._numbers = words, numbers
        self._mark = mark
        self._stream: Any = None

    def begin(self, stream: Any, tensor: Any) -> None:
        """Queue the copy of this tensor on the stream that is current."""
        self._words[self._at] = self._mark
        self._stream = stream
        tensor.record_stream(stream)  # its memory may belong to another one
        self._target.copy_(tensor.reshape(()) if tensor.ndim else tensor, non_blocking=True)

    def is_ready(self, *, ask: bool) -> bool:
        # A stream that is idle has copied, also where the value happens to look like the mark; and it raises
        # what its kernels died of.
        return self._words[self._at] != self._mark or (ask and bool(self._stream.query()))

    def number(self) -> float:
        return float(self._target if self._numbers is None else self._numbers[self._at])

    def release(self) -> None:
        self._pool.append(self)


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

    def release(self) -> None:
        """It is nobody else's."""


class _Pool:
    """Pinned host memory for numbers of one dtype; it grows with what waits at once."""

    def __init__(self, torch: Any, dtype: Any) -> None:
        self._torch, self._dtype = torch, dtype
        self._lock = threading.RLock()
        self.free: deque[CudaCopy] = deque()
        #: How many slots there are.
        self.size = 0

    def take(self) -> CudaCopy:
        try:
            return self.free.popleft()
        except IndexError:
            return self._grow()

    def _grow(self) -> CudaCopy:
        torch = self._torch
        with (
            self._lock,
            torch.inference_mode(False),
        ):  # a tensor made in it could not be written outside of it
            block = torch.empty(_SLOTS, dtype=self._dtype, device="cpu", pin_memory=True)
            width = block.element_size()
            words = block.view({1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[width])
            seen, numbers = memoryview(words.numpy()), _numbers_in(block)
            first, *others = [
                CudaCopy(self.free, self._target(block[at]), at, seen, numbers, _EMPTY[width])
                for at in range(_SLOTS)
            ]
            self.size += _SLOTS
        self.free.extend(others)
        return first

    def _target(self, slot: Any) -> Any:
        return slot


def _numbers_in(block: Any) -> memoryview | None:
    """The numbers of a tensor on the host, read without a call of PyTorch's; None: not of this dtype."""
    try:
        numbers = memoryview(block.numpy())
        float(numbers[0])
    except (TypeError, NotImplementedError):  # bfloat16 for numpy; float16 for Python before 3.14
        return None
    return numbers


_pools: dict[Any, _Pool] = {}
