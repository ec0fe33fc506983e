"""Mutation testing: change the code a little, and see whether a test notices.

    scripts/mutation.py [MODULE …] [--share 0.2 | --all] [--seed N] [--jobs N]

mutmut makes the mutants and runs for each the tests that call its function. It wants a package's path to
be its name, so both packages are laid side by side in build/mutation/src, and the settings of
scripts/mutation.toml beside them. Of the mutants a seeded share is tried (the same ones each time, so
that two reports can be compared). Ends with docs/mutation.md, from all results in build/mutation; what
was tried before is tried again only where it is asked for by MODULE, its function has changed, or with
`make clean`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import shutil
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STAGE = ROOT / "build" / "mutation"
SETTINGS = ROOT / "scripts" / "mutation.toml"
REPORT = ROOT / "docs" / "mutation.md"
#: pytest's and the system's exit statuses, as mutmut keeps them: killed, timeout (by CPU or wall time).
KILLED, TIMEOUT, SURVIVED, UNTESTED = {1, 3}, {-24, 24, 36, 152, 255}, {0}, {5, 33}


def stage() -> None:
    """Bring build/mutation up to date; a file that is the same keeps its time, so that its results stand."""
    STAGE.mkdir(parents=True, exist_ok=True)
    folders = (
        ROOT / "processors" / "entrenar_processors",
        ROOT / "native" / "entrenar_native",
        ROOT / "entrenar_otel",
    )
    for package in folders:
        _mirror(package, STAGE / "src" / package.name)
    for name in ("tests", "benchmarks", "docs"):
        _mirror(ROOT / name, STAGE / name)
        _mirror(ROOT / name, STAGE / "mutants" / name)  # mutmut copies what is there, and removes nothing
    for name in ("conftest.py", "renacer.toml", "README.md"):
        shutil.copy2(ROOT / name, STAGE / name)
    shutil.copy2(SETTINGS, STAGE / "pyproject.toml")


def _mirror(source: Path, target: Path) -> None:
    """Copy what differs, and remove what is not there any more."""
    names = {path.relative_to(source) for path in source.rglob("*") if "__pycache__" not in path.parts}
    for old in [path for path in target.rglob("*") if path.is_file()]:
        if old.relative_to(target) not in names:
            old.unlink()
    for name in sorted(names):
        here, there = source / name, target / name
        if there.is_file() and here.is_dir():
            there.unlink()
        elif there.is_dir() and here.is_file():
            shutil.rmtree(there)
        if here.is_dir():
            there.mkdir(parents=True, exist_ok=True)
        elif not there.exists() or here.read_bytes() != there.read_bytes():
            there.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(here, there)


def mutmut(*arguments: str, quiet: bool = False) -> int:
    """Run it in the staged folder."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    environment["ENTRENAR_NATIVE"] = "0"  # what is changed is Python
    command = [sys.executable, "-m", "mutmut", *arguments]
    output = subprocess.DEVNULL if quiet else None
    return subprocess.run(command, cwd=STAGE, env=environment, check=False, stdout=output).returncode


def results() -> dict[str, dict[str, int | None]]:
    """Per module, the exit status by mutant: None where it was not tried."""
    found = {}
    for path in sorted((STAGE / "mutants" / "src").rglob("*.py.meta")):
        if statuses := json.loads(path.read_text())["exit_code_by_key"]:
            found[str(path.relative_to(STAGE / "mutants" / "src"))[:-8].replace("/", ".")] = statuses
    return found


def drawn(mutant: str, seed: str, share: float) -> bool:
    """Whether this mutant is of the sample."""
    digest = hashlib.sha256(f"{seed}:{mutant}".encode()).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64


def interval(killed: int, tried: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share (Wilson 1927)."""
    if not tried:
        return 0.0, 1.0
    z, p = 1.96, killed / tried
    middle, half = p + z * z / (2 * tried), z * math.sqrt(p * (1 - p) / tried + z * z / (4 * tried**2))
    return (middle - half) / (1 + z * z / tried), (middle + half) / (1 + z * z / tried)


def report(tried: dict[str, dict[str, int | None]]) -> str:
    """docs/mutation.md: by module how many were noticed, and which were not."""
    rows, survivors, sums = [], [], defaultdict[str, Counter[str]](Counter)
    for module, statuses in tried.items():
        count: Counter[str] = Counter(all=len(statuses))
        for mutant, status in statuses.items():
            if status is None:
                continue
            count["tried"] += 1
            count["killed"] += status in KILLED
            count["timeout"] += status in TIMEOUT
            if status not in KILLED | TIMEOUT:
                survivors.append(_survivor(mutant) + (" (no test calls it)" if status in UNTESTED else ""))
        part = "processors" if module.startswith("entrenar_processors") else "segment codec"
        for whole in (part, "all"):
            sums[whole] += count
        if module.endswith(".policy"):
            sums["policy"] += count
        rows.append(_row(f"`{module}`", count))
    head = ["| | mutants | tried | noticed | of these by time | score | 95 % interval |", "|" + " --- |" * 7]
    patterns = [line.strip() for line in SETTINGS.read_text().splitlines() if line.startswith("  '")]
    return "\n".join(
        [
            "# Mutation testing",
            "",
            "`make mutation` changes the code a little, a seeded share of all possible changes one at a",
            "time, and sees whether a test notices ([mutmut](https://github.com/boxed/mutmut); settings in",
            "scripts/mutation.toml). It is not part of `make test`. This page is its output.",
            "",
            *head,
            *(_row(f"**{name}**", sums[name]) for name in ("processors", "policy", "segment codec", "all")),
            "",
            "## By module",
            "",
            *head,
            *rows,
            "",
            "## Not changed",
            "",
            "mutmut leaves alone what stands outside functions, decorated functions but for",
            "`staticmethod` and `classmethod`, and annotations. Excluded besides, by what a line holds:",
            "",
            *(f"- {line}" for line in _excluded(patterns)),
            "",
            "## Not noticed",
            "",
            "Function, line, and what it became. Many change nothing that can be seen: the size of",
            "a buffer, a limit by one, a shortcut that ends in the same place.",
            "",
            *survivors,
            "",
        ]
    )


def _survivor(mutant: str) -> str:
    """One line of the report: where, what it was, what it became."""
    from mutmut.mutation.diff_apply import get_diff_for_mutant

    where = mutant.partition("__mutmut_")[0].replace("xǁ", "").replace("ǁ", ".").replace(".x_", ".")
    lines = [line for line in get_diff_for_mutant(mutant).splitlines() if line[:3] not in ("---", "+++")]
    was, became = (" ".join(line[1:].strip() for line in lines if line[:1] == sign) for sign in "-+")
    return f"- {where}: ``{was}`` → ``{became}``"


def _row(name: str, count: Counter[str]) -> str:
    noticed, tried = count["killed"] + count["timeout"], count["tried"]
    low, high = interval(noticed, tried)
    score = f"{noticed / tried:.1%} | {low:.1%} – {high:.1%}" if tried else "– | –"
    return f"| {name} | {count['all']:,} | {tried:,} | {noticed:,} | {count['timeout']} | {score} |"


def _excluded(lines: Iterable[str]) -> Iterable[str]:
    for line in lines:
        pattern, _, reason = line.partition("#")
        yield f"`{pattern.strip().rstrip(',')[1:-1]}`: {reason.strip()}"


def main() -> int:
    """Stage, try, report; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("modules", nargs="*", help="ends of modules' names (all)")
    parser.add_argument("--share", type=float, default=0.2, help="of the mutants (0.2)")
    parser.add_argument("--all", action="store_true", help="every mutant: hours")
    parser.add_argument("--seed", default="0", help="of the share")
    parser.add_argument("--jobs", default=str(os.cpu_count()), help="at once (the number of cores)")
    parser.add_argument("--report", action="store_true", help="only write the report")
    given = parser.parse_args()
    if not given.report:
        stage()
        print("mutants, and which test calls what (two minutes, and 1 GB of memory) …", flush=True)
        mutmut("run", "--max-children", given.jobs, "none.yet", quiet=True)
        wanted = [
            mutant
            for module, statuses in results().items()
            if not given.modules or module.endswith(tuple(f".{name}" for name in given.modules))
            for mutant, status in statuses.items()
            if given.all or drawn(mutant, given.seed, given.share)
            if status is None or given.modules
        ]
        if not results():
            return mutmut("run", "--max-children", given.jobs)  # says what is wrong
        if given.modules and not wanted:
            sys.exit(f"no mutant of {', '.join(given.modules)}: expected the ends of modules' names")
        print(f"{len(wanted):,} mutants to try", flush=True)
        if wanted and (status := mutmut("run", "--max-children", given.jobs, *wanted)):
            return status
    if not (STAGE / "mutants" / "src").is_dir():
        sys.exit("nothing was tried yet: run it without --report")
    os.chdir(STAGE)  # where mutmut looks for its files
    REPORT.write_text(report(results()))
    print(f"written: {REPORT.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
