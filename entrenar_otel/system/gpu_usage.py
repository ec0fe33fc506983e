"""GpuUsage: utilisation, memory, power and temperature of NVIDIA's GPUs, from NVML (`nvidia-ml-py`)."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from entrenar_otel.console import logger
from entrenar_otel.errors import describe
from entrenar_otel.system.readings import Readings


@dataclass
class _Gpu:
    handle: Any
    tags: dict[str, str]
    #: What this GPU has not: a partitioned one (MIG) says nothing of its utilisation, say.
    without: set[str] = field(default_factory=set)


class GpuUsage:
    """Reads `hw.gpu.*`, `hw.power`, `hw.energy` and `hw.temperature` of every GPU that NVML shows.

    A GPU that is lost is said once, and the others go on. Made by `find`.
    """

    def __init__(self, nvml: ModuleType, gpus: list[_Gpu]) -> None:
        self._nvml, self._gpus = nvml, gpus

    @classmethod
    def find(cls) -> GpuUsage | None:
        """The GPUs of this machine, or None: without `nvidia-ml-py`, a driver, or a GPU, none is read.

        It may take seconds, where the driver has to wake up.
        """
        try:
            nvml = importlib.import_module("pynvml")
        except ImportError as error:
            logger.debug("GPUs are not read (%s): pip install 'entrenar-otel[gpu]'", describe(error))
            return None
        try:
            nvml.nvmlInit()
            count = nvml.nvmlDeviceGetCount()
        except nvml.NVMLError as error:
            logger.debug("GPUs are not read: %s", describe(error))
            return None
        gpus = [gpu for index in range(count) if (gpu := _gpu_at(nvml, index)) is not None]
        return cls(nvml, gpus) if gpus else None

    def read(self, to: Readings) -> None:
        """Read every GPU once."""
        for gpu in [*self._gpus]:
            try:
                self._read(gpu, to)
            except self._nvml.NVMLError_GpuIsLost as error:
                self._gpus.remove(gpu)
                logger.warning(
                    "%s (%s) is lost: NVML says %r. Its readings end here, those of %s go on; `nvidia-smi` "
                    "and the kernel's log say more",
                    gpu.tags["hw.name"],
                    gpu.tags["hw.id"],
                    str(error),
                    f"{len(self._gpus)} other GPUs" if self._gpus else "the process and the host",
                )

    def close(self) -> None:
        """Let go of NVML."""
        self._nvml.nvmlShutdown()

    def _read(self, gpu: _Gpu, to: Readings) -> None:
        nvml, handle, tags = self._nvml, gpu.handle, gpu.tags
        if (busy := self._ask(gpu, nvml.nvmlDeviceGetUtilizationRates)) is not None:
            to.add("hw.gpu.utilization", busy.gpu / 100, tags)
        if (memory := self._ask(gpu, nvml.nvmlDeviceGetMemoryInfo)) is not None:
            to.add("hw.gpu.memory.usage", memory.used, tags)
            to.add("hw.gpu.memory.limit", memory.total, tags)
            to.add("hw.gpu.memory.utilization", memory.used / memory.total, tags)
        if (milliwatts := self._ask(gpu, nvml.nvmlDeviceGetPowerUsage)) is not None:
            to.add("hw.power", milliwatts / 1000, tags)
        if (millijoules := self._ask(gpu, nvml.nvmlDeviceGetTotalEnergyConsumption)) is not None:
            to.add_since("hw.energy", millijoules / 1000, tags)
        sensor = nvml.NVML_TEMPERATURE_GPU
        celsius = self._ask(gpu, nvml.nvmlDeviceGetTemperature, lambda ask: ask(handle, sensor))
        to.add("hw.temperature", celsius, tags)

    def _ask(self, gpu: _Gpu, ask: Any, call: Callable[[Any], Any] | None = None) -> Any:
        """One answer, or None where this GPU or its driver has none. Raises NVMLError_GpuIsLost."""
        name = ask.__name__
        if name in gpu.without:
            return None
        try:
            return ask(gpu.handle) if call is None else call(ask)
        except self._nvml.NVMLError_GpuIsLost:
            raise
        except (self._nvml.NVMLError_NotSupported, self._nvml.NVMLError_FunctionNotFound):
            gpu.without.add(name)
            logger.debug("%s has no %s", gpu.tags["hw.name"], name)
        except self._nvml.NVMLError as error:
            logger.debug("%s: %s: %s", gpu.tags["hw.name"], name, error)
        return None


def _gpu_at(nvml: ModuleType, index: int) -> _Gpu | None:
    try:
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        uuid = nvml.nvmlDeviceGetUUID(handle)
    except nvml.NVMLError as error:
        logger.debug("GPU %d is not read: %s", index, error)
        return None
    return _Gpu(handle, {"hw.id": str(uuid), "hw.name": f"gpu{index}", "hw.type": "gpu"})
