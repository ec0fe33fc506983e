"""What is optional, and the one message that says how to have it."""

from __future__ import annotations

from importlib.util import find_spec


class MissingExtra(ImportError):
    """A library that only some detectors need is not installed; `extra` is how to have it."""

    def __init__(self, who: str, library: str, extra: str) -> None:
        super().__init__(f"{who} needs {library}: pip install 'entrenar-otel[{extra}]'", name=library)
        self.extra = extra


#: Import name: (what it is called, the extra that brings it).
_LIBRARIES = {
    "scipy": ("scipy", "detectors"),
    "sklearn": ("scikit-learn", "detectors"),
}


def require_library(module: str, who: str) -> None:
    """Refuse at construction, not in the middle of a run, what cannot work; imports nothing.

    >>> require_library("scipy", "DriftDetector")
    """
    if find_spec(module) is None:
        raise MissingExtra(who, *_LIBRARIES[module])
