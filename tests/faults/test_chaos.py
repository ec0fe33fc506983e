"""A minute of chaos (benchmarks/chaos): nothing acknowledged is lost, doubled or wrong."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.timeout(1800)
def test_a_minute_of_chaos(tmp_path: Path) -> None:
    """Writers, readers, recoverers and pruners, killed at random; the kinds that this machine has."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "benchmarks.chaos", "--minutes", "1", "--seed", "1"),
            *("--folder", str(tmp_path), "--without", WITHOUT),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    print(done.stdout, done.stderr, sep="\n")
    assert done.returncode == 0, done.stdout[-3000:]
    assert done.stdout.rstrip().endswith("held")
    counts = {what: int(number.replace(",", "")) for number, what in _counts(done.stdout)}
    assert counts["acknowledged"] > 1000
    assert counts["writers killed"] > 2
    assert counts["reads"] > 0


def _counts(out: str) -> list[tuple[str, str]]:
    lines = [line.strip().split("  ", 1) for line in out.splitlines() if line.startswith("   ")]
    return [(line[0], line[1]) for line in lines if len(line) == 2 and line[0].replace(",", "").isdigit()]


#: Kinds that are run by hand (`python -m benchmarks.chaos`), see docs/reliability.md.
WITHOUT = "raising,reentrant,hang"
