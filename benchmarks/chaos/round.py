"""Round: a lake, and for some time everybody who uses it, of whom one after the other is killed."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.chaos.acks import CAUGHT, DONE, RAISED, Acks
from benchmarks.chaos.nursery import Nursery
from benchmarks.chaos.place import Place

KINDS = ("raising", "reentrant", "clock", "hang")
WRITERS = 3
OTHERS = ("read", "read", "recover", "prune")
#: How long a process may take for its beginning, its end, or a check, on a machine with much else to do.
_PATIENCE = 120.0
#: A writer that makes no progress for so long while the lake hangs is stalled.
_HANG = (2.0, 6.0)
FAKETIME = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))


class Child:
    """A process in its role; a writer's run and acknowledgements."""

    def __init__(self, nursery: Nursery, role: str, pid: int, until: float, run_id: str = "") -> None:
        self.nursery, self.role, self.pid, self.until, self.run_id = nursery, role, pid, until, run_id
        self.acks: Acks | None = None
        self.lifetime: float | None = None  # once it has begun
        self.kinds: list[str] = []
        self.clean = ""
        self.seen = 0

    def status(self, timeout_seconds: float | None = 0.0) -> int | None:
        return self.nursery.status(self.pid, timeout_seconds)

    def kill(self, number: int = signal.SIGKILL) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)


class Round:
    """One round in a folder of its own. `counts` are what it came to, `problems` what must not be."""

    def __init__(self, root: Path, seed: int, kinds: Sequence[str], say: Callable[[str], None]) -> None:
        self.place = Place(root)
        self.chance = random.Random(seed)
        self.kinds = set(kinds)
        self.say = say
        self.counts: Counter[str] = Counter()
        self.problems: list[str] = []
        self._writers: list[Child] = []
        self._others: list[Child] = []
        self._lookers: list[Child] = []
        self._number = 0
        self._mount: subprocess.Popen[bytes] | None = None
        self._hangs_until = 0.0
        self._offset = 0

    def run(self, seconds: float) -> None:
        self.place.make()
        if "hang" in self.kinds:
            self._mount_lake()
        environment = {
            k: v for k, v in os.environ.items() if not k.startswith(("OTEL_", "ENTRENAR_", "RANK"))
        }
        environment |= {"ENTRENAR_LAKE": str(self.place.lake), "ENTRENAR_LIVE": str(self.place.live)}
        environment["ENTRENAR_SYSTEM_METRICS"] = "0"  # every row that is found is one that a writer has told
        self._nursery = Nursery(self.place.root, environment)
        self._nurseries = [self._nursery]
        if "clock" in self.kinds:
            self._nurseries.append(
                Nursery(
                    self.place.root,
                    environment
                    | {
                        "LD_PRELOAD": str(FAKETIME[0]),
                        "FAKETIME_TIMESTAMP_FILE": str(self.place.offset),
                        "FAKETIME_NO_CACHE": "1",
                        "DONT_FAKE_MONOTONIC": "1",
                    },
                )
            )
        try:
            self._go_on(time.monotonic() + seconds)
            self._end()
        finally:
            self._resume()
            for one in [*self._writers, *self._others, *self._lookers]:
                one.kill()
            for nursery in self._nurseries:
                nursery.close()
            if self._mount is not None:
                subprocess.run(["umount", "-l", str(self.place.lake)], check=False)
                self._mount.wait()
        self._sum_up()

    # -- while it goes on -------------------------------------------------------------------------

    def _go_on(self, end: float) -> None:
        said = 0.0
        while (now := time.monotonic()) < end:
            while len(self._writers) < WRITERS:
                self._writers.append(self._new_writer(now))
            for role in OTHERS:
                wanted = OTHERS.count(role)
                if sum(one.role == role for one in self._others) < wanted:
                    self._others.append(self._new(role, now, self.chance.uniform(1, 8)))
            self._kill_some(now)
            self._hang_or_go_on(now, end)
            self._set_clock()
            if now - said > 5:
                said = now
                self._sum_up()
                self.say(f"{max(0, end - now):4.0f} s to go: {self.text()}")
            time.sleep(0.02)

    def _new(self, role: str, now: float, lifetime: float, **arguments: object) -> Child:
        arguments.setdefault("seed", self.chance.randrange(1 << 30))
        return Child(self._nursery, role, self._nursery.fork(role, **arguments), now + lifetime)

    def _new_writer(self, now: float) -> Child:
        self._number += 1
        run_id = f"run-{self._number:05d}"
        acks = Acks(self.place.acks / run_id, create=True)
        wanted = [kind for kind in KINDS[:2] if kind in self.kinds]
        kinds: list[str] = [kind for kind in wanted if self.chance.random() < 0.4]
        nursery = self.chance.choice(self._nurseries)
        pid = nursery.fork("write", run_id=run_id, seed=self.chance.randrange(1 << 30), kinds=kinds)
        # One of five is killed while it begins; the others live for a while from their first call on.
        made = Child(nursery, "write", pid, now + self.chance.choice((0.5, 1e9, 1e9, 1e9, 1e9)), run_id)
        made.acks, made.kinds, made.lifetime = acks, kinds, self.chance.uniform(0.0, 5)
        self.counts["runs"] += 1
        return made

    def _kill_some(self, now: float) -> None:
        for one in list(self._others):
            if one.status() is not None or now > one.until:
                one.kill()
                self._others.remove(one)
                self.counts["others killed"] += 1
        for one in list(self._writers):
            if one.status() is not None:
                self._writers.remove(one)
                self._died(one, now)
            elif now > one.until:
                self._finish(one, now)
            elif one.lifetime is not None and one.acks is not None and one.acks.has_begun:
                one.until, one.lifetime = min(one.until, now + one.lifetime), None
        for one in list(self._lookers):
            if one.status() is not None:
                self._lookers.remove(one)

    def _finish(self, one: Child, now: float) -> None:
        """Most are killed; some may end by themselves, or by a SIGTERM, for a while."""
        one.lifetime = None  # one that is told to end before it has begun has all of that while, too
        if one.clean or self.chance.random() < 0.8:
            one.kill()
            one.until = now + 1e9
        elif self.chance.random() < 0.5:
            one.clean = "stopped"
            (self.place.stop / one.run_id).touch()
            one.until = now + _PATIENCE
        else:
            one.clean = "terminated"
            one.kill(signal.SIGTERM)
            one.until = now + _PATIENCE

    def _died(self, one: Child, now: float) -> None:
        status, acks = one.status(), one.acks
        assert acks is not None
        self.counts["acknowledged"] += acks.acknowledged()
        if status == -signal.SIGKILL:
            self.counts["writers killed"] += 1
            if one.clean:
                self._problem(f"{one.run_id} did not end by itself ({one.clean})")
        else:
            self.counts["writers ended"] += 1
            if status not in (0, -signal.SIGTERM):
                self._problem(f"{one.run_id} ended with {status}")
        raised, caught = acks.count(RAISED), acks.count(CAUGHT)
        self.counts["raised"] += raised
        if acks.count(DONE) and "reentrant" not in one.kinds and caught < raised - 1:
            self._problem(
                f"{one.run_id}: {raised - caught} of {raised} exceptions of signal handlers were swallowed"
            )
        mark = self.chance.random() < 0.3
        self._lookers.append(self._new("look", now, 1e9, run_id=one.run_id, mark=int(mark)))

    def _problem(self, text: str) -> None:
        self.problems.append(text)
        self.say(f"PROBLEM {text}")

    # -- what hangs, and what time it is ------------------------------------------------------------

    def _mount_lake(self) -> None:
        behind = self.place.root / "behind"
        behind.mkdir()
        self._mount = subprocess.Popen(["bindfs", "-f", str(behind), str(self.place.lake)])
        end = time.monotonic() + _PATIENCE
        while not os.path.ismount(self.place.lake):
            if self._mount.poll() is not None or time.monotonic() > end:
                raise RuntimeError("bindfs does not mount")
            time.sleep(0.05)

    def _hang_or_go_on(self, now: float, end: float) -> None:
        if self._mount is None:
            return
        if self._hangs_until:
            if now > self._hangs_until:
                self._resume()
        elif now < end - _HANG[1] and self.chance.random() < 0.003:
            for one in self._writers:
                assert one.acks is not None
                one.seen = one.acks.acknowledged()
            self._hangs_until = now + self.chance.uniform(*_HANG)
            self._began = now
            self._mount.send_signal(signal.SIGSTOP)
            self.counts["hangs"] += 1

    def _resume(self) -> None:
        if self._mount is None or not self._hangs_until:
            return
        for one in self._writers:
            if one.seen and not one.clean and one.until < 1e9 and one.status() is None:
                assert one.acks is not None
                self.counts["hung writers"] += 1
                if one.acks.acknowledged() == one.seen:
                    self.counts["stalled writers"] += 1
            one.seen = 0
        self._hangs_until = 0.0
        self._mount.send_signal(signal.SIGCONT)

    def _set_clock(self) -> None:
        if "clock" in self.kinds and self.chance.random() < 0.01:
            self._offset = self.chance.choice((0, 1, -1, 60, -60, 3600, -3600, 20 * 3600))
            new = self.place.offset.with_suffix(".new")
            new.write_text(f"{self._offset:+}\n")
            new.rename(self.place.offset)
            self.counts["clock steps"] += 1

    # -- the end ----------------------------------------------------------------------------------

    def _end(self) -> None:
        self._resume()
        for one in self._others:
            one.kill()
        for one in self._writers:
            if not one.clean:
                one.kill()
            if self._wait(one):
                self._died(one, time.monotonic())
        self._writers.clear()
        for one in [*self._lookers, *self._others]:
            self._wait(one)
        settler = self._new("settle", time.monotonic(), 1e9, seed=0)
        self._wait(settler, 10 * _PATIENCE)

    def _wait(self, one: Child, timeout_seconds: float = _PATIENCE) -> bool:
        end = time.monotonic() + timeout_seconds
        while one.status(0.1) is None:
            if time.monotonic() > end:
                self._problem(f"{one.role} {one.run_id} does not end")
                one.kill()
                return False
        return True

    def _sum_up(self) -> None:
        told: Counter[str] = Counter()
        texts = []
        for one in self.place.told():
            told[one["what"]] += one["number"]
            if one["text"] and one["what"] != "damaged":
                texts.append(f"{one['what']}: {one['text']}")
        self.counts.update({what: number - self.counts[what] for what, number in told.items()})
        for text in texts:
            if text not in self.problems:
                self._problem(text)

    def text(self) -> str:
        counts = self.counts
        return (
            f"{counts['runs']} runs, {counts['acknowledged']:,} calls acknowledged, "
            f"{counts['writers killed'] + counts['others killed']} kills, {counts['reads']} reads, "
            f"{counts['rows read']:,} rows checked; lost {counts['lost']}, doubled {counts['doubled']}, "
            f"wrong {counts['wrong']}"
        )
