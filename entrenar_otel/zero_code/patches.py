"""Patches: the trainers of frameworks have our callback, unless the program has given them one.

Each takes the module that the program has imported, whose classes it changes, once; `leave` undoes it.
"""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable
from typing import Any

from entrenar_otel.console import logger
from entrenar_otel.errors import guard
from entrenar_otel.identity.process import is_disabled

#: What undoes each patch, by the class that is changed.
_undo: dict[type, Callable[[], None]] = {}
#: Says of a callback that nobody but us has asked for it.
_AUTOMATIC = "_entrenar_is_automatic"
#: Of a Keras model: its callback, which also knows the run that a later `evaluate` goes on with.
_KERAS = "_entrenar_callback"


def apply(module: Any) -> None:
    """Change the trainer of this module, one of `PLACES`, where nothing is switched off."""
    class_name, make = PLACES[module.__name__]
    changed = getattr(module, class_name)
    if is_disabled(os.environ) or changed in _undo:
        return
    methods = make(changed)
    before = {name: vars(changed).get(name) for name in methods}

    def undo() -> None:
        for name, method in before.items():
            if method is None:  # a base class has it
                delattr(changed, name)
            else:
                setattr(changed, name, method)

    for name, method in methods.items():
        setattr(changed, name, method)
    _undo[changed] = undo


def leave(module: Any) -> None:
    """Undo it, where it was done."""
    undo = _undo.pop(getattr(module, PLACES[module.__name__][0]), None)
    if undo is not None:
        undo()


def _replaced(args: Any, kwargs: Any, place: int, change: Callable[[Any], Any]) -> tuple[Any, Any]:
    """Arguments of a call with `callbacks`, which is the one at this place, changed."""
    if len(args) > place:
        return (*args[:place], change(args[place]), *args[place + 1 :]), kwargs
    return args, kwargs | {"callbacks": change(kwargs.get("callbacks"))}


def _place_of_callbacks(method: Callable[..., Any]) -> int:
    """Among the arguments after `self`."""
    return list(inspect.signature(method).parameters).index("callbacks") - 1


# -- transformers


def _of_transformers(trainer: Any) -> dict[str, Callable[..., Any]]:
    original, add = trainer.__init__, trainer.add_callback
    place = _place_of_callbacks(original)

    @functools.wraps(original)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807 - it stands for that one
        args, kwargs = _replaced(args, kwargs, place, _with_ours)
        original(self, *args, **kwargs)

    @functools.wraps(add)
    def add_callback(self: Any, callback: Any) -> None:
        if _is_ours(callback):
            for known in list(self.callback_handler.callbacks):
                if getattr(known, _AUTOMATIC, False):
                    self.remove_callback(known)
        add(self, callback)

    return {"__init__": __init__, "add_callback": add_callback}


def _with_ours(callbacks: Any) -> list[Any]:
    given = list(callbacks or [])
    with guard("transformers"):
        if not any(map(_is_ours, given)):
            from entrenar_otel.integrations.huggingface import EntrenarCallback

            given.append(_automatic(EntrenarCallback()))
    return given


def _is_ours(callback: Any) -> bool:
    from entrenar_otel.integrations.huggingface import EntrenarCallback

    kind = callback if isinstance(callback, type) else type(callback)
    return issubclass(kind, EntrenarCallback)


def _automatic(callback: Any) -> Any:
    setattr(callback, _AUTOMATIC, True)
    return callback


# -- lightning, pytorch_lightning


def _of_lightning(trainer: Any) -> dict[str, Callable[..., Any]]:
    def adding(original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def method(self: Any, *args: Any, **kwargs: Any) -> Any:
            with guard("lightning"):
                _settle(self)
            return original(self, *args, **kwargs)

        return method

    return {name: adding(getattr(trainer, name)) for name in ("fit", "validate", "test")}


def _settle(trainer: Any) -> None:
    """Now, and not when the Trainer is made: programs add callbacks to `trainer.callbacks` until `fit`."""
    from entrenar_otel.integrations.lightning import EntrenarCallback

    ours = [one for one in trainer.callbacks if isinstance(one, EntrenarCallback)]
    if not ours:
        places = map(trainer.callbacks.index, trainer.checkpoint_callbacks)  # they stand last
        made: Any = EntrenarCallback()
        trainer.callbacks.insert(min(places, default=len(trainer.callbacks)), _automatic(made))
    elif len(ours) > 1:
        for one in ours:
            if getattr(one, _AUTOMATIC, False):
                trainer.callbacks.remove(one)


# -- keras


def _of_keras(model: Any) -> dict[str, Callable[..., Any]]:
    import keras

    if not keras.__version__.startswith("3."):
        logger.warning("Keras %s is not recorded: pip install 'keras>=3.6'", keras.__version__)
        return {}

    def adding(original: Callable[..., Any]) -> Callable[..., Any]:
        place = _place_of_callbacks(original)

        @functools.wraps(original)
        def method(self: Any, *args: Any, **kwargs: Any) -> Any:
            given = args[place] if len(args) > place else kwargs.get("callbacks")
            ours = None
            with guard("keras"):
                ours = _free_callback(self, given)
            if ours is None:
                return original(self, *args, **kwargs)
            args, kwargs = _replaced(args, kwargs, place, lambda _: [*_listed(given), ours])
            try:
                return original(self, *args, **kwargs)
            except BaseException as error:
                ours.fail(error)  # Keras tells callbacks of no exception
                raise

        return method

    return {name: adding(getattr(model, name)) for name in ("fit", "evaluate")}


def _listed(callbacks: Any) -> list[Any]:
    """Keras takes one, or several, or none."""
    return [*callbacks] if isinstance(callbacks, list | tuple) else [callbacks] if callbacks else []


def _free_callback(model: Any, given: Any) -> Any:
    """The automatic callback of the model; none where the program has one, and within a `fit` that has it."""
    import keras

    from entrenar_otel.integrations.keras import EntrenarCallback

    if isinstance(given, keras.callbacks.CallbackList):  # of the fit that validates, or the program's own
        return None
    if any(isinstance(one, EntrenarCallback) for one in _listed(given)):
        vars(model)[_KERAS] = None  # from now on, too: it knows what it wants recorded
        return None
    if _KERAS not in vars(model):
        vars(model)[_KERAS] = EntrenarCallback()
    ours = vars(model)[_KERAS]
    return None if ours is None or ours.is_on else ours


#: By module: the class that is changed, and what makes its methods.
PLACES: dict[str, tuple[str, Callable[[Any], dict[str, Callable[..., Any]]]]] = {
    "transformers.trainer": ("Trainer", _of_transformers),
    "lightning.pytorch": ("Trainer", _of_lightning),
    "pytorch_lightning": ("Trainer", _of_lightning),
    "keras": ("Model", _of_keras),
}
