"""entrenar_native: the native core, where it was built; whoever uses it has the same in Python.

`core` is the extension module, or None; `state()` says in words which, and why. `ENTRENAR_NATIVE=0` in the
environment switches it off. Callers look `core` up when they need it: `entrenar_native.core`.
"""

from __future__ import annotations

import importlib
import os
import sys
from types import ModuleType

#: What of the extension module this version of the packages knows; it has the same number (src/module.c).
INTERFACE = 4
#: Of a checkout; nowhere in an installation.
_SOURCES = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "src")


def _load() -> tuple[ModuleType | None, str]:
    if os.environ.get("ENTRENAR_NATIVE", "").strip().lower() in ("0", "false", "no", "off"):
        return None, f"switched off by ENTRENAR_NATIVE={os.environ['ENTRENAR_NATIVE'].strip()}"
    if not getattr(sys, "_is_gil_enabled", lambda: True)():
        return None, "not for a free-threaded Python"
    try:
        _core = importlib.import_module("entrenar_native._core")
    except ModuleNotFoundError:
        return (
            None,
            "not built: there was no C compiler at installation (in a checkout: python hatch_build.py)",
        )
    except Exception as error:  # whatever it is, Python does without
        return None, f"not loaded: {error}"
    if _is_older_than_sources(_core):
        return None, "older than its sources: python hatch_build.py"
    if _core.INTERFACE != INTERFACE:
        return None, "built from another version: install again (in a checkout: python hatch_build.py)"
    return _core, f"in use: {_core.__file__}"


def _is_older_than_sources(built: ModuleType) -> bool:
    """Whether this is a checkout whose sources have changed since: what is called may not be there yet."""
    if built.__file__ is None or not os.path.exists(os.path.join(_SOURCES, "core.h")):
        return False  # an installation
    made = os.stat(built.__file__).st_mtime
    with os.scandir(_SOURCES) as sources:
        return any(entry.stat().st_mtime > made for entry in sources)


core, _STATE = _load()


def state() -> str:
    """Whether the native core is in use, and why not, as words for people.

    >>> state().startswith(("native core in use: ", "pure Python: native core "))
    True
    """
    return f"native core {_STATE}" if core is not None else f"pure Python: native core {_STATE}"
