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
INTERFACE = 2


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
    except ImportError as error:
        return None, f"not loaded: {error}"
    if _core.INTERFACE != INTERFACE:
        return None, "built from another version: install again (in a checkout: python hatch_build.py)"
    return _core, f"in use: {_core.__file__}"


core, _STATE = _load()


def state() -> str:
    """Whether the native core is in use, and why not, as words for people.

    >>> state().startswith(("native core in use: ", "pure Python: native core "))
    True
    """
    return f"native core {_STATE}" if core is not None else f"pure Python: native core {_STATE}"
