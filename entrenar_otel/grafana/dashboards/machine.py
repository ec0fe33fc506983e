"""The rows *Machine*: the process, its host and the GPUs, as `[monitor.system]` reads them.

A host is read by one of the processes on it, so its series have that one's rank.
"""

from __future__ import annotations

from entrenar_otel.grafana.dashboards.measured import now, rate
from entrenar_otel.grafana.dashboards.page import Row
from entrenar_otel.grafana.dashboards.panels import Limits, Query, chart
from entrenar_otel.grafana.promql import PROCESS

_GPU = (*PROCESS, "hw_name")
_GPU_NAME = "{{hw_name}} rank {{rank}}"
_NO_GPU = "no GPU was read: entrenar-otel[gpu]"


def machine() -> list[Row]:
    """What it runs on: where a step was slow, and nothing of the training says why."""
    return [_host(), _gpus()]


def _host() -> Row:
    host = "sum by (run_id, rank)"
    cpu = (*PROCESS, "cpu_mode")
    busy, waits = (now("system.cpu.utilization", f'cpu_mode{is_it}"iowait"', by=cpu) for is_it in ("!=", "="))
    return Row(
        [
            (chart("CPU", "percentunit", "The process at 1: it computes with all of its CPUs. The host high "
                   "and the process low: somebody else does. Waits for disk: faster storage.",
                   Query(now("process.cpu.utilization"), "process rank {{rank}}"),
                   Query(f"{host} ({busy})", "host of rank {{rank}}"),
                   Query(f"{host} ({waits})", "waits for disk, host of rank {{rank}}"), low=0), 6),
            (chart("Memory", "bytes", "Rising from epoch to epoch: something is kept. A container at its "
                   "limit is killed.",
                   Query(now("process.memory.usage"), "process rank {{rank}}"),
                   Query(now("system.memory.usage"), "host of rank {{rank}}"),
                   Query(now("container.memory.usage"), "container of rank {{rank}}"),
                   Query(now("container.memory.available"), "left to the container of rank {{rank}}"),
                   low=0), 6),
            (chart("Disk", "Bps", "Bytes per second. Reads that fall while steps wait for data: storage is "
                   "slow. Peaks of writes are checkpoints.",
                   Query(rate("process.disk.io", "disk_io_direction"),
                         "process {{disk_io_direction}} rank {{rank}}"),
                   Query(rate("system.disk.io", "disk_io_direction"),
                         "host {{disk_io_direction}}, of rank {{rank}}"), low=0), 6),
            (chart("Network", "Bps", "Bytes per second of the host. With several machines gradients go here; "
                   "data that are read over it too.",
                   Query(rate("system.network.io", "network_io_direction"),
                         "host {{network_io_direction}}, of rank {{rank}}"), low=0), 6),
        ],
        title="Machine",
    )  # fmt: skip


def _gpus() -> Row:
    return Row(
        [
            (chart("GPU utilisation", "percentunit", "The share of time with any kernel running. Low with a "
                   "high data wait: the loader is too slow.",
                   Query(now("hw.gpu.utilization", by=_GPU), _GPU_NAME), low=0, empty=_NO_GPU), 6),
            (chart("GPU memory", "percentunit", "Near 100 %: the next larger batch does not fit; PyTorch "
                   "keeps what it once had.",
                   Query(now("hw.gpu.memory.utilization", by=_GPU), _GPU_NAME),
                   limits=Limits(high=1), low=0, empty=_NO_GPU), 6),
            (chart("GPU power", "watt", "Far below its limit at full utilisation: small kernels, or waits in "
                   "between.",
                   Query(now("hw.power", by=_GPU), _GPU_NAME), low=0, empty=_NO_GPU), 6),
            (chart("GPU temperature", "celsius", "One far above the others: it slows itself down, and "
                   "with it all ranks.",
                   Query(now("hw.temperature", by=_GPU), _GPU_NAME), empty=_NO_GPU), 6),
        ]
    )  # fmt: skip
