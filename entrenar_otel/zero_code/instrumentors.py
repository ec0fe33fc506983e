"""Instrumentors: a framework's trainer has our callback, unless the program has given it one.

Entry points that `opentelemetry-instrument` calls, unless `OTEL_PYTHON_DISABLED_INSTRUMENTATIONS` names
them; `entrenar-otel run` does the same. No framework is imported for it.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any, ClassVar

from entrenar_otel.zero_code import patches
from entrenar_otel.zero_code.imports import when_imported

if TYPE_CHECKING:

    class BaseInstrumentor:
        """OpenTelemetry's, as far as it is used here."""

        def instrument(self, **kwargs: Any) -> Any: ...

        def uninstrument(self, **kwargs: Any) -> Any: ...

else:
    try:
        from opentelemetry.instrumentation.instrumentor import BaseInstrumentor
    except ImportError:  # opentelemetry-instrumentation is not installed

        class BaseInstrumentor:
            """The same two calls."""

            def instrument(self, **kwargs: Any) -> Any:
                self._instrument(**kwargs)

            def uninstrument(self, **kwargs: Any) -> Any:
                self._uninstrument(**kwargs)


class _FrameworkInstrumentor(BaseInstrumentor):
    #: Modules that have the trainer, see `patches.PLACES`.
    _MODULES: ClassVar[tuple[str, ...]] = ()

    def instrumentation_dependencies(self) -> Collection[str]:
        """None: the package itself says which versions are tested."""
        return ()

    def _instrument(self, **_: Any) -> None:
        for name in self._MODULES:
            when_imported(name, patches.apply)

    def _uninstrument(self, **_: Any) -> None:
        for name in self._MODULES:
            when_imported(name, patches.leave)


class TransformersInstrumentor(_FrameworkInstrumentor):
    """Every `transformers.Trainer` that is made from now on has an `EntrenarCallback`."""

    _MODULES = ("transformers.trainer",)


class LightningInstrumentor(_FrameworkInstrumentor):
    """Every `fit`, `validate` and `test` of a Trainer of Lightning has an `EntrenarCallback`."""

    _MODULES = ("lightning.pytorch", "pytorch_lightning")


class KerasInstrumentor(_FrameworkInstrumentor):
    """Every `fit` and `evaluate` of a Keras 3 model has an `EntrenarCallback`, which stays with the model."""

    _MODULES = ("keras",)
