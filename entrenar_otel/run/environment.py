"""Environment: which Python and packages a run was made with, as one event, found off the loop."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import sys
import threading
from functools import cache
from typing import Any

from entrenar_otel.errors import guard
from entrenar_otel.otel.traces.run_spans import RunSpans
from entrenar_otel.semconv import ENVIRONMENT

#: Of more packages, the first by name are named: a note holds no more.
MAX_PACKAGES = 3_000


@cache
def environment() -> dict[str, Any]:
    """Python's version and implementation, the system, and every installed package with its version.

    It is looked up once per process: what is installed meanwhile has not been imported by a run before it.

    >>> sorted(environment())
    ['implementation', 'packages', 'platform', 'python']
    """
    packages: dict[str, str] = {}
    for distribution in importlib.metadata.distributions():  # in the order of the path: the first is used
        name, version = distribution.metadata["Name"], distribution.version
        if isinstance(name, str) and isinstance(version, str):
            packages.setdefault(name[:200], version[:100])
    return {
        "python": platform.python_version(),
        "implementation": sys.implementation.name,
        "platform": platform.platform(),
        "packages": dict(sorted(packages.items(), key=lambda pair: pair[0].lower())[:MAX_PACKAGES]),
    }


def record_environment(spans: RunSpans) -> threading.Thread:
    """Note it on the run, from a thread of its own: some hundred small files are read for it."""

    def note() -> None:
        with guard("environment"):
            known = environment()
            told = {"python": known["python"], "packages": len(known["packages"])}
            spans.event(ENVIRONMENT, told, body=json.dumps(known, ensure_ascii=False))

    thread = threading.Thread(target=note, name="entrenar-environment", daemon=True)
    thread.start()
    return thread
