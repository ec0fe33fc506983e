"""Extras: libraries that only some parts need, and the message that says how to install them."""

from __future__ import annotations

from importlib.util import find_spec


class MissingExtra(ImportError):
    """A library that is needed is not installed; `extra` is the extra that brings it."""

    def __init__(self, who: str, library: str, extra: str) -> None:
        super().__init__(f"{who} needs {library}: pip install 'entrenar-otel[{extra}]'", name=library)
        self.extra = extra


#: By import name: what the library is called, and the extra that brings it.
_LIBRARIES = {
    **{tracker: (tracker, f"import-{tracker}") for tracker in ("mlflow", "tensorboard", "trackio", "wandb")},
    "networkx": ("networkx", "lineage"),
    "packaging": ("packaging", "lineage"),
    "scipy": ("scipy", "detectors"),
    "sklearn": ("scikit-learn", "detectors"),
}


def require_library(module: str, who: str) -> None:
    """Raise MissingExtra where a library is not installed, without importing it.

    So a detector is refused at construction and not in the middle of a run.

    >>> require_library("scipy", "DriftDetector")
    """
    if find_spec(module) is None:
        raise MissingExtra(who, *_LIBRARIES[module])
