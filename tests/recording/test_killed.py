"""kill -9 in the middle of recording, by the reference and by the native core: what returned is there."""

from __future__ import annotations

import mmap
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from entrenar_otel.recording.decode import decode
from entrenar_otel.recording.segment import HEADER_BYTES, Snapshot

#: Two threads and a signal handler record; what has returned is counted in a mapping that outlives them.
_WORK = """
import itertools, mmap, os, signal, struct, sys, threading
from pathlib import Path
from entrenar_otel.recording import segment, segment_log
from entrenar_otel.recording.recorder import Recorder

segment.Segment.create.__func__.__defaults__ = (1 << 16,)
folder = Path(sys.argv[1])
recorder = Recorder(begin=lambda: recorder.open(folder, {"run_id": "r"}), on_bad_loss=print, on_held=print)
with open(sys.argv[2], "r+b") as file:
    done = mmap.mmap(file.fileno(), 64)
names = [f"wide/{i}" for i in range(40)]

def work(thread):
    bound = recorder.bind(["b"], {"thread": str(thread)})
    for i in itertools.count(1):
        recorder.log(**{f"a{thread}": i, "twice": 2 * i}, step=i)
        bound(i, step=i)
        recorder.log(dict.fromkeys(names, float(i)))
        done[8 * thread : 8 * thread + 8] = struct.pack("<q", i)

recorder.log(first=0.0)  # whoever begins is alone, as in a run
signal.signal(signal.SIGALRM, lambda *_: recorder.log(inside=1.0))
signal.setitimer(signal.ITIMER_REAL, 1e-3, 1e-3)
threading.Thread(target=work, args=[1], daemon=True).start()
work(0)
"""


def records(folder: Path) -> Iterator[dict[str, float]]:
    """What others read, in order; damage at most where the last record was being written."""
    paths = sorted(folder.glob("*.seg"))
    for path in paths:
        snapshot = Snapshot.read(path)
        assert snapshot is not None
        found = decode(snapshot.words, {}, start=HEADER_BYTES)
        assert all(damage.tail and path is paths[-1] for damage in found.damage)
        for block in found.samples.blocks:
            for step, row in zip(block.step.tolist(), block.values.tolist(), strict=True):
                yield {"step": step, **dict(zip(map(str, block.series), row, strict=True))}


@pytest.mark.parametrize("turn", range(6))
def test_killed_anywhere(tmp_path: Path, core: str, turn: int) -> None:
    """Every call that had returned is there with its values, in files that anybody reads."""
    live, acks = tmp_path / "live", tmp_path / "acks"
    live.mkdir()
    acks.write_bytes(bytes(64))
    process = subprocess.Popen([sys.executable, "-c", _WORK, str(live), str(acks)])
    with acks.open("r+b") as file:
        done = mmap.mmap(file.fileno(), 64)
        ends = time.monotonic() + 300
        while min(counts := struct.unpack_from("<2q", done)) < 300 * (turn + 1):
            if time.monotonic() > ends:
                process.kill()
            assert process.poll() is None, f"{core}: {counts}"
            time.sleep(0.001)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        counts = struct.unpack_from("<2q", done)
    seen = list(records(live))
    wide = sorted(row["wide/0"] for row in seen if "wide/0" in row)
    assert all(len(set(row.values()) - {row["step"]}) == 1 for row in seen if "wide/0" in row)
    for thread, count in enumerate(counts):
        pairs = [(row[f"a{thread}"], row["twice"], row["step"]) for row in seen if f"a{thread}" in row]
        assert sorted(pairs) == [(i, 2 * i, i) for i in range(1, len(pairs) + 1)]
        assert count <= len(pairs) <= count + 1
        bound = [row[f'b{{thread="{thread}"}}'] for row in seen if f'b{{thread="{thread}"}}' in row]
        assert sorted(bound) == list(range(1, len(bound) + 1))
        assert count <= len(bound) <= count + 1
    assert sum(counts) <= len(wide) <= sum(counts) + 2
