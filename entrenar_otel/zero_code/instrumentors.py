"""Instrumentors: a framework's trainer has our callback, unless the program has given it one.

Entry points that `opentelemetry-instrument` calls, unless `OTEL_PYTHON_DISABLED_INSTRUMENTATIONS` names
them; `entrenar-otel run` does the same. No framework is imported for it.
"""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

from entrenar_otel.errors import guard
from entrenar_otel.identity.process import is_disabled
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


#: What undoes each patch, by the trainer's class.
_undo: dict[type, Callable[[], None]] = {}
#: Says of a callback that nobody but us has asked for it.
_AUTOMATIC = "_entrenar_is_automatic"


class TransformersInstrumentor(BaseInstrumentor):
    """Every `transformers.Trainer` that is made from now on has an `EntrenarCallback`."""

    def instrumentation_dependencies(self) -> Collection[str]:
        """None: the package itself says which versions are tested."""
        return ()

    def _instrument(self, **_: Any) -> None:
        when_imported("transformers.trainer", add_to_trainer)

    def _uninstrument(self, **_: Any) -> None:
        when_imported("transformers.trainer", _leave_trainer)


def add_to_trainer(module: Any) -> None:
    """Let `Trainer` of the module `transformers.trainer` have our callback, once."""
    trainer = module.Trainer
    if is_disabled(os.environ) or trainer in _undo:
        return
    original, add = trainer.__init__, trainer.add_callback
    place = list(inspect.signature(original).parameters).index("callbacks") - 1

    @functools.wraps(original)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807 - it stands for that one
        if len(args) > place:
            args = (*args[:place], _with_ours(args[place]), *args[place + 1 :])
        else:
            kwargs["callbacks"] = _with_ours(kwargs.get("callbacks"))
        original(self, *args, **kwargs)

    @functools.wraps(add)
    def add_callback(self: Any, callback: Any) -> None:
        if _is_ours(callback):
            for known in list(self.callback_handler.callbacks):
                if getattr(known, _AUTOMATIC, False):
                    self.remove_callback(known)
        add(self, callback)

    def undo() -> None:
        trainer.__init__, trainer.add_callback = original, add

    trainer.__init__, trainer.add_callback = __init__, add_callback
    _undo[trainer] = undo


def _leave_trainer(module: Any) -> None:
    undo = _undo.pop(module.Trainer, None)
    if undo is not None:
        undo()


def _with_ours(callbacks: Any) -> list[Any]:
    given = list(callbacks or [])
    if not any(map(_is_ours, given)):
        with guard("transformers"):
            from entrenar_otel.integrations.huggingface import EntrenarCallback

            made = EntrenarCallback()
            setattr(made, _AUTOMATIC, True)
            given.append(made)
    return given


def _is_ours(callback: Any) -> bool:
    from entrenar_otel.integrations.huggingface import EntrenarCallback

    kind = callback if isinstance(callback, type) else type(callback)
    return issubclass(kind, EntrenarCallback)
