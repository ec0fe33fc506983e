"""Chaos: writers, readers, recoverers and pruners on one lake, killed at random."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from benchmarks.chaos.round import FAKETIME, KINDS, Round


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0, help="how long; in rounds of a minute each")
    parser.add_argument(
        "--seed", type=int, default=None, help="which processes are killed when; default: by time"
    )
    parser.add_argument(
        "--without", default="", metavar="KIND,…", help=f"leave out some of {', '.join(KINDS)}"
    )
    parser.add_argument(
        "--round", type=float, default=60.0, metavar="SECONDS", help="a new lake after so long"
    )
    parser.add_argument("--folder", type=Path, help="where; its file system is what is tested")
    options = parser.parse_args()
    seed = int(time.time()) if options.seed is None else options.seed
    kinds = kinds_here(options.without.split(","))
    print(f"seed {seed}; with {', '.join(kinds) or 'kills only'}", flush=True)
    total: Counter[str] = Counter()
    problems: list[str] = []
    end = time.monotonic() + options.minutes * 60
    while (left := end - time.monotonic()) > 1:
        total["rounds"] += 1
        root = Path(tempfile.mkdtemp(prefix="entrenar-chaos-", dir=options.folder))
        one = Round(root, seed * 1000 + total["rounds"], kinds, lambda line: print(line, flush=True))
        one.run(min(options.round, left))
        total.update(one.counts)
        problems += one.problems
        if one.problems:
            print(f"round {total['rounds']}: what it left is in {root}")
        else:
            shutil.rmtree(root)
    print(f"seed {seed}; with {', '.join(kinds) or 'kills only'}")
    for what, number in sorted(total.items()):
        print(f"{number:>16,}  {what}")
    for problem in problems:
        print(f"PROBLEM {problem}")
    print("held" if not problems else f"{len(problems)} problems")
    return int(bool(problems))


def kinds_here(without: list[str]) -> list[str]:
    """Kinds that are wanted and possible on this machine; those that are not are said."""
    missing = {
        "clock": "" if FAKETIME else "libfaketime is not installed",
        "hang": "" if shutil.which("bindfs") and Path("/dev/fuse").exists() else "bindfs is not installed",
    }
    found = []
    for kind in KINDS:
        if kind in without:
            continue
        if reason := missing.get(kind):
            print(f"NOT TESTED HERE: {kind}, since {reason}", flush=True)
        else:
            found.append(kind)
    return found


if __name__ == "__main__":
    sys.exit(main())
