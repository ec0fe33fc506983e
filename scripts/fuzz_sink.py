"""Fuzz the sink's decoder: mutated requests by the million; none may raise, hang, or grow without bound.

    nice python scripts/fuzz_sink.py --inputs 1000000 --seed 7

What a roll does with a request that was acknowledged is what is called here: taking it apart, and making the
rows of what is good in it.
"""

from __future__ import annotations

import argparse
import logging
import random
import resource
import struct
import sys
import time
from collections import Counter
from pathlib import Path
from zlib import adler32

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from entrenar_processors import Samples
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from entrenar_otel.lake.hand_over import tables_of
from entrenar_otel.lake.tables.journal import Journal
from entrenar_otel.lake.tables.schema import Owner
from entrenar_otel.sink.decoding.arrived import Arrived
from entrenar_otel.sink.decoding.unstorable import Unstorable
from entrenar_otel.sink.known.intervals import Intervals
from entrenar_otel.sink.request_log import Request, Signal
from entrenar_otel.sink.storing.fresh import fresh

#: A single input that takes longer is an error.
_MAX_SECONDS = 5.0
_INTERESTING = (
    0,
    1,
    0x7F,
    0x80,
    0xFF,
    0xFFF5,
    0x7FFF,
    0xFFFF,
    0x7FFFFFFF,
    0xFFFFFFFF,
    1 << 62,
    (1 << 63) - 1,
)


class Fuzz:
    """Mutates seeds, and takes apart what comes of it."""

    def __init__(self, seeds: list[tuple[Signal, bytes]], seed: int) -> None:
        self._seeds, self._random = seeds, random.Random(seed)  # noqa: S311
        self.unstorable, self.rows = Counter[str](), 0

    def run(self, inputs: int) -> None:
        """Take so many inputs apart. What is raised is a mistake; the input is in `fuzz-failed.bin` then."""
        for _ in range(inputs):
            signal, data = self.mutated()
            begun = time.monotonic()
            try:
                self.take(signal, data)
            except BaseException:
                Path("fuzz-failed.bin").write_bytes(bytes([signal]) + data)
                raise
            if time.monotonic() - begun > _MAX_SECONDS:
                Path("fuzz-failed.bin").write_bytes(bytes([signal]) + data)
                raise AssertionError(f"an input of {len(data):,} bytes took {time.monotonic() - begun:.1f} s")

    def take(self, signal: Signal, data: bytes) -> None:
        """What a roll does with a request, up to the rows."""
        arrived = Arrived(Unstorable({"quiet"}), lambda _digest: False)
        arrived.add(Request(1, signal, data))
        for come in arrived:
            blocks = [*fresh(come.blocks, Intervals()), *fresh(come.wide.blocks(), Intervals())]
            journal = Journal([event for _, event in come.events], list(come.spans.values()), [], 0)
            self._rows(journal, Samples(blocks), Owner(come.process.run_id, 1, come.process.rank))
        for foreign in arrived.foreign.values():
            for _, _, batches in foreign.tables(foreign.samples(0)):
                self.rows += sum(map(len, batches))
        self.unstorable.update(arrived.unstorable.counts)

    def _rows(self, journal: Journal, samples: Samples, owner: Owner) -> None:
        for _, _, batches in tables_of(journal, samples, owner):
            for batch in batches:
                self.rows += len(batch)

    def mutated(self) -> tuple[Signal, bytes]:
        """An input: a seed with some damage, of the protobuf or within a block whose envelope stays whole."""
        pick = self._random
        signal, data = pick.choice(self._seeds)
        if signal is Signal.LOGS and pick.random() < 0.5:
            data = self._in_block(data)
            if pick.random() < 0.7:
                return signal, data
        if pick.random() < 0.02:
            return pick.choice(list(Signal)), pick.randbytes(pick.randrange(200))
        raw = bytearray(data)
        for _ in range(pick.choice((1, 1, 2, 4, 16))):
            self._damage(raw)
        return (pick.choice(list(Signal)) if pick.random() < 0.05 else signal), bytes(raw)

    def _damage(self, raw: bytearray) -> None:
        pick = self._random
        if not raw:
            return
        at, kind = pick.randrange(len(raw)), pick.randrange(6)
        if kind == 0:
            raw[at] ^= 1 << pick.randrange(8)
        elif kind == 1:
            raw[at] = pick.randrange(256)
        elif kind == 2:
            del raw[at : at + pick.randrange(1, 40)]
        elif kind == 3:
            start = pick.randrange(len(raw))
            raw[at:at] = raw[start : start + pick.randrange(1, 40)]
        elif kind == 4:
            raw[at : at + 8] = struct.pack("<Q", pick.choice(_INTERESTING))
        else:
            del raw[at:]

    def _in_block(self, data: bytes) -> bytes:
        """Damage the body or the numbers of a block; half of the time with checksums that agree again."""
        pick = self._random
        request = ExportLogsServiceRequest.FromString(data)
        records = [
            record
            for resource_logs in request.resource_logs
            for scope in resource_logs.scope_logs
            for record in scope.log_records
        ]
        if not records:
            return data
        record = pick.choice(records)
        if record.body.bytes_value and pick.random() < 0.8:
            raw = bytearray(record.body.bytes_value)
            for _ in range(pick.choice((1, 2, 5))):
                self._damage(raw)
            if pick.random() < 0.7:
                raw = raw[: len(raw) // 8 * 8]
            if pick.random() < 0.5:
                _seal(raw)
            record.body.bytes_value = bytes(raw)
        for item in record.attributes:
            if pick.random() < 0.1:
                item.value.int_value = pick.choice(_INTERESTING) * pick.choice((1, -1))
        return bytes(request.SerializeToString())


def _seal(raw: bytearray) -> None:
    """Let the checksums of what look like records agree, so that the damage gets past them."""
    at = 0
    while at + 32 <= len(raw):
        head = int.from_bytes(raw[at : at + 8], "little")
        length = head >> 32 & 0xFFFF
        if head >> 48 == 0xFFF5 and length >= 4 and at + 8 * length <= len(raw):
            end = at + 8 * length
            raw[end - 8 : end] = struct.pack("<Q", adler32(raw[at : end - 8]))
            at = end
        else:
            at += 8


def main() -> None:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    from tests.sink.seeds import SEEDS

    fuzz = Fuzz(SEEDS, options.seed)
    begun, step = time.monotonic(), max(1, options.inputs // 20)
    for done in range(0, options.inputs, step):
        fuzz.run(min(step, options.inputs - done))
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        print(
            f"{min(done + step, options.inputs):,} inputs, {time.monotonic() - begun:,.0f} s, "
            f"{fuzz.rows:,} rows, "
            f"unstorable {dict(fuzz.unstorable)}, at most {memory} MB",
            flush=True,
        )


if __name__ == "__main__":
    main()
