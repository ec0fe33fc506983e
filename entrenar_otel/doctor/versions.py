"""Versions: ours, Python's, of the dependencies and the extras, and whether the native core runs."""

from __future__ import annotations

import platform
import re
import sys
import sysconfig
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from entrenar_otel._version import __version__
from entrenar_otel.doctor.check import Check, note, problem
from entrenar_otel.doctor.requirements import PACKAGE, Requirement, requirements

#: Minor versions of CPython that every release is tested on.
TESTED_PYTHONS = ((3, 11), (3, 12), (3, 13))
#: What each extra gives; those that only developers install are not told of.
EXTRAS = {
    "demo": "entrenar-otel demo: a training to look at",
    "detectors": "drift tests and the isolation forest",
    "river": "river's drift detectors",
    "apprise": "alerts to chats, mail and pagers",
    "view": "watch on the whole screen, plot, pictures of incidents",
    "otlp": "sending to a Collector, and the sink that receives",
    "grafana": "dashboards build, rules build",
    "gpu": "readings of NVIDIA's GPUs",
    "lineage": "graphs of models' versions",
    "import-mlflow": "import of MLflow's history",
    "import-tensorboard": "import of TensorBoard's history",
    "import-trackio": "import of Trackio's history",
    "import-wandb": "import of W&B's history",
}
_FRAMEWORKS = "frameworks"
#: The native core; a separate package of the same wheel, which may be missing.
_NATIVE = "entrenar_native"


def checks() -> Iterator[Check]:
    """Everything that is installed, the most important first."""
    yield _ours()
    yield _python()
    if sys.platform != "linux":
        yield problem("system", f"{platform.system()} is not supported", "record on Linux")
    yield _native_core()
    known = requirements()
    yield from _dependencies([one for one in known if one.extra is None])
    yield from _extras(known)
    yield from _frameworks([one for one in known if one.extra == _FRAMEWORKS])


def _ours() -> Check:
    folder = str(Path(__file__).parents[1])
    try:
        described = version(PACKAGE)
    except PackageNotFoundError:
        described = __version__
    if described != __version__:
        return note(
            "entrenar-otel",
            f"{__version__} in {folder}, described by metadata of {described}",
            "install it again: ranges, extras and entry points are those of another version",
            version=__version__,
            folder=folder,
        )
    return Check(
        "entrenar-otel", f"{__version__} in {folder}", facts={"version": __version__, "folder": folder}
    )


def _python() -> Check:
    number, build = platform.python_version(), platform.python_implementation()
    text = f"{build} {number} ({sys.executable})"
    facts = {"version": number, "executable": sys.executable}
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        return note("Python", f"{text}, free-threaded: handled, not tested", **facts)
    if sys.version_info[:2] not in TESTED_PYTHONS or build != "CPython":
        first, last = (".".join(map(str, one)) for one in (TESTED_PYTHONS[0], TESTED_PYTHONS[-1]))
        return note("Python", f"{text}: tested are CPython {first} to {last}", **facts)
    return Check("Python", text, facts=facts)


def _native_core() -> Check:
    """Whether the C core runs; without it the same is done in Python, and takes longer."""
    try:
        native = import_module(_NATIVE)
        is_there, words = native.core is not None, str(native.state()).removeprefix("native core ")
    except ImportError:
        is_there, words = False, "pure Python: this installation has no native core"
    if is_there:
        return Check("native core", words, facts={"is_on": True})
    return note("native core", words, "nothing is lacking but speed", is_on=False)


def _dependencies(required: list[Requirement]) -> Iterator[Check]:
    if not required:
        yield note(
            "dependencies",
            "unknown: the package runs from its folder and is not installed",
            "pip install it, or pip install -e its folder",
        )
        return
    met = [one for one in required if one.is_met]
    versions = {one.name: one.installed for one in required}
    text = ", ".join(f"{one.name} {one.installed}" for one in met)
    yield Check(
        "dependencies",
        f"{len(met)} of {len(required)} within their tested ranges: {text}",
        facts={"versions": versions},
    )
    for one in required:
        if one not in met:
            yield _unmet(one)


def _unmet(one: Requirement) -> Check:
    told = "is missing" if one.installed is None else f"{one.installed} is installed, tested is {one.range}"
    return problem(
        one.name, told, f"pip install '{one.name}{one.range}'", installed=one.installed, tested=one.range
    )


def _extras(known: list[Requirement]) -> Iterator[Check]:
    """Each that is whole or too old, and in one note what the others would give."""
    lacking: dict[str, list[str]] = {}
    for extra, gives in EXTRAS.items():
        required = [one for one in known if one.extra == extra]
        there = ", ".join(f"{one.name} {one.installed}" for one in required if one.is_met)
        old = [one for one in required if one.installed is not None and not one.is_met]
        facts = {"installed": {one.name: one.installed for one in required}, "gives": gives}
        if old:
            told = ", ".join(f"{one.name} {one.installed} (tested: {one.range})" for one in old)
            yield note(f"[{extra}]", f"{gives}: {told}", f"pip install 'entrenar-otel[{extra}]'", **facts)
        elif missing := [one.name for one in required if not one.is_met]:
            lacking[extra] = missing
        elif required:  # none where the package is not installed
            yield Check(f"[{extra}]", there, facts=facts)
    if lacking:
        yield note(
            "not installed",
            "; ".join(f"[{extra}] for {EXTRAS[extra]}" for extra in lacking),
            f"pip install 'entrenar-otel[{','.join(lacking)}]', with those that you want",
            missing=lacking,
        )


def _frameworks(known: list[Requirement]) -> Iterator[Check]:
    """Of those that have a callback here, the ones that are installed."""
    there = [one for one in known if one.installed is not None]
    met = [one for one in there if one.is_met]
    if known:
        text = ", ".join(f"{one.name} {one.installed}" for one in met)
        yield Check(
            "frameworks",
            text or f"none of the {len(known)} that have callbacks here is installed",
            facts={"installed": {one.name: one.installed for one in there}},
        )
    for one in there:
        if one not in met:
            least = re.sub(r"^>=", "", one.range)
            yield note(
                one.name,
                f"{one.installed} is installed, tested from {least} on",
                f"pip install '{one.name}{one.range}'",
            )
