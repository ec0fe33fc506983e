"""Limits: what one query may take of memory, of the disk and of time.

A query may run in the training's own process, where one that takes all memory kills the training.
"""

from __future__ import annotations

import contextlib
import os
import re
import resource
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from entrenar_processors.durations import parse_seconds

from entrenar_otel.errors import ConfigError

#: The names of the settings, for messages: environment variable, option of the command.
MEMORY = ("ENTRENAR_QUERY_MEMORY", "--memory")
SPILL = ("ENTRENAR_QUERY_SPILL", "--spill")
TIMEOUT = ("ENTRENAR_QUERY_TIMEOUT", "--timeout")

_UNITS = {"": 1, "B": 1} | {
    f"{prefix}{unit}": base ** (i + 1)
    for base, unit in ((1000, "B"), (1024, "IB"))
    for i, prefix in enumerate("KMGT")
}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?I?B?)\s*", flags=re.I)
_DEFAULT_MEMORY, _LEAST_MEMORY = 2_000_000_000, 64_000_000
_DEFAULT_SPILL = 2_000_000_000
_DEFAULT_SECONDS = 600.0
#: What the process takes besides the query, when it is limited as a whole.
_REST_BYTES = 1_000_000_000


def parse_size(text: str | int, name: str) -> int:
    """A size in bytes. Raises ConfigError.

    >>> parse_size("2GB", "memory"), parse_size("1.5 GiB", "memory"), parse_size(4096, "memory")
    (2000000000, 1610612736, 4096)
    """
    match = _SIZE.fullmatch(str(text))
    unit = _UNITS.get(match[2].upper() or "B") if match else None
    if match is None or unit is None:
        raise ConfigError(f"{name}: expected a size such as 2GB or 500MB, got {str(text)!r}")
    return int(float(match[1]) * unit)


def size_text(size_bytes: float) -> str:
    """A size for people.

    >>> size_text(2_000_000_000), size_text(1_500_000)
    ('2 GB', '1.5 MB')
    """
    for unit in ("B", "kB", "MB", "GB"):
        if size_bytes < 1000:
            return f"{size_bytes:.3g} {unit}"
        size_bytes /= 1000
    return f"{size_bytes:.4g} TB"


@dataclass(frozen=True)
class Limits:
    """What one query may take. `spill_bytes` is what it may put on the disk when memory does not do."""

    memory_bytes: int
    spill_bytes: int = _DEFAULT_SPILL
    seconds: float = _DEFAULT_SECONDS

    @classmethod
    def of(
        cls,
        memory: str | int | None = None,
        spill: str | int | None = None,
        timeout: str | float | None = None,
        environ: Mapping[str, str] = os.environ,
    ) -> Limits:
        """Those given, else those of the environment, else the defaults. Raises ConfigError.

        By default a quarter of the machine's (or the container's) memory, at most 2 GB; as much of disk;
        ten minutes.
        """

        def given(value: str | float | None, name: str) -> str | float | None:
            return environ.get(name) or None if value is None else value

        wanted = given(memory, MEMORY[0])
        spilled = given(spill, SPILL[0])
        seconds = given(timeout, TIMEOUT[0])
        own = (
            min(_DEFAULT_MEMORY, _total_memory() // 4)
            if wanted is None
            else parse_size(str(wanted), MEMORY[0])
        )
        return cls(
            max(_LEAST_MEMORY, own),
            _DEFAULT_SPILL if spilled is None else parse_size(str(spilled), SPILL[0]),
            _DEFAULT_SECONDS if seconds is None else _seconds(seconds),
        )


def _seconds(value: str | float) -> float:
    try:
        seconds = parse_seconds(value) if isinstance(value, str) else float(value)
    except ValueError as error:
        raise ConfigError(f"{TIMEOUT[0]}: {error}") from None
    if not seconds > 0:
        raise ConfigError(f"{TIMEOUT[0]}: expected a duration such as 10m, got {value!r}")
    return seconds


def _total_memory() -> int:
    """The memory that this process may use: the machine's, or the container's."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for file in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):  # no such limit, or `max`
            total = min(total, int(Path(file).read_text(encoding="ascii")))
    return total


def resident_bytes() -> int:
    """What this process has in memory now; 0 where the system does not say."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * resource.getpagesize()
    except (OSError, ValueError, IndexError):
        return 0


@contextlib.contextmanager
def whole_process(limits: Limits) -> Iterator[None]:
    """Limit the process as a whole: for one that does nothing but answer, never for a training's.

    DuckDB's own limit does not count single values that functions make, such as `repeat('x', 4000000000)`.
    """
    before = resource.getrlimit(resource.RLIMIT_DATA)
    with contextlib.suppress(OSError, ValueError):
        wanted = _data_bytes() + limits.memory_bytes + _REST_BYTES
        if before[1] != resource.RLIM_INFINITY:
            wanted = min(wanted, before[1])
        resource.setrlimit(resource.RLIMIT_DATA, (wanted, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


def _data_bytes() -> int:
    """What RLIMIT_DATA counts of this process."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmData:"):
            return int(line.split()[1]) * 1024
    return 0
