"""Views: a run as people see it: curves, findings and budgets in a terminal, a picture or a notebook.

>>> from entrenar_otel.views import Dashboard, Panel
>>> Dashboard(panels=[Panel("loss"), Panel("accuracy", row=0, column=1)])
<Dashboard of loss, accuracy>
"""

import typing

if typing.TYPE_CHECKING:
    from entrenar_otel.views.dashboard import Dashboard, Visualizer
    from entrenar_otel.views.model import Panel, RunView

__all__ = ["Dashboard", "Panel", "RunView", "Visualizer"]


def __getattr__(name: str) -> typing.Any:
    """The classes, which load DuckDB and pyarrow."""
    if name in ("Dashboard", "Visualizer"):
        from entrenar_otel.views import dashboard

        return getattr(dashboard, name)
    if name in ("Panel", "RunView"):
        from entrenar_otel.views import model

        return getattr(model, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
