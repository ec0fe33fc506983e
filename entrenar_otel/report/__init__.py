"""Report: the post-mortem (Hansei) of a run: what happened, why probably, what to do.

>>> from entrenar_otel.report import postmortem
>>> postmortem.__name__
'postmortem'
"""

import typing

if typing.TYPE_CHECKING:
    from entrenar_otel.report.causes.cause import Cause
    from entrenar_otel.report.post_mortem import PostMortem, postmortem

__all__ = ["Cause", "PostMortem", "postmortem"]


def __getattr__(name: str) -> typing.Any:
    """What loads DuckDB and pyarrow, when it is asked for."""
    if name in ("PostMortem", "postmortem"):
        import importlib

        return getattr(importlib.import_module("entrenar_otel.report.post_mortem"), name)
    if name == "Cause":
        from entrenar_otel.report.causes.cause import Cause

        return Cause
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
