"""HostUsage: CPU, memory, disk and network of the host, and the memory of a container with a limit."""

from __future__ import annotations

from pathlib import Path

import psutil

from entrenar_otel.system.cgroup import Cgroup
from entrenar_otel.system.readings import Readings

#: Modes as the conventions name them → psutil's; what is left of 1 is idle.
_MODES = {
    "user": ("user", "nice"),
    "system": ("system", "irq", "softirq"),
    "iowait": ("iowait",),
    "steal": ("steal",),
}
#: Times of guests are in those of users.
_IN_OTHERS = ("guest", "guest_nice")


class HostUsage:
    """Reads `system.*` and `container.*`; CPU, disk and network are known from the second reading on.

    Disks and network cards are counted once each: where the machine has real ones, volumes, partitions,
    bridges and tunnels above them are left out. `devices` is the folder in which Linux says so.
    """

    def __init__(self, cgroup: Cgroup | None = None, devices: Path = Path("/sys")) -> None:
        self._cgroup = cgroup
        self._devices = devices
        self._before: dict[str, float] | None = None

    def read(self, to: Readings) -> None:
        """Read everything once."""
        for mode, share in (to.attempt("the CPU time of the host", self._cpu) or {}).items():
            to.add("system.cpu.utilization", share, {"cpu.mode": mode})
        if memory := to.attempt("the memory of the host", psutil.virtual_memory):
            used = memory.total - memory.available  # cached files make room
            to.add("system.memory.usage", used, {"system.memory.state": "used"})
            to.add("system.memory.utilization", used / memory.total, {"system.memory.state": "used"})
        if disk := to.attempt("the disks of the host", self._disk):
            for direction, total in zip(("read", "write"), disk, strict=True):
                to.add_since("system.disk.io", total, {"disk.io.direction": direction})
        if network := to.attempt("the network of the host", self._network):
            for direction, total in zip(("receive", "transmit"), network, strict=True):
                to.add_since("system.network.io", total, {"network.io.direction": direction})
        if self._cgroup is not None and (held := to.attempt("the limit of memory", self._cgroup.memory)):
            to.add("container.memory.usage", held.usage)
            to.add("container.memory.available", held.available)

    def _cpu(self) -> dict[str, float]:
        times = psutil.cpu_times()._asdict()
        now = {name: value for name, value in times.items() if name not in _IN_OTHERS}
        before, self._before = self._before, now
        if before is None:
            return {}
        spent = {name: max(0.0, value - before.get(name, value)) for name, value in now.items()}
        total = sum(spent.values())
        return {
            mode: sum(spent.get(name, 0.0) for name in names) / total
            for mode, names in _MODES.items()
            if total and any(name in spent for name in names)
        }

    def _disk(self) -> tuple[int, int] | None:
        counters = psutil.disk_io_counters(perdisk=True, nowrap=False)
        real = [counters[name] for name in self._real("block", counters)]
        if not real:  # no hardware is shown here
            whole = psutil.disk_io_counters(nowrap=False)
            real = [] if whole is None else [whole]
        return (sum(d.read_bytes for d in real), sum(d.write_bytes for d in real)) if real else None

    def _network(self) -> tuple[int, int] | None:
        counters = psutil.net_io_counters(pernic=True, nowrap=False)
        names = self._real("class/net", counters) or [name for name in counters if not name.startswith("lo")]
        cards = [counters[name] for name in names]
        return (sum(c.bytes_recv for c in cards), sum(c.bytes_sent for c in cards)) if cards else None

    def _real(self, kind: str, names: dict[str, object]) -> list[str]:
        """Those behind which there is a device; in a container there may be none."""
        return [name for name in names if (self._devices / kind / name / "device").exists()]
