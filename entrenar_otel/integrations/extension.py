"""Extension: an object whose class extends a framework's, found when the first one is made.

A framework takes only callbacks that extend its own class, and `lightning.pytorch` and `pytorch_lightning`
have the same classes twice. Which package a program trains with shows when it makes a callback: by then it
has imported that package, whatever the order of its imports.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from operator import attrgetter
from types import new_class
from typing import Any, ClassVar, Self, cast

from entrenar_otel.errors import ConfigError
from entrenar_otel.integrations.versions import TESTED, check_version


class Extension:
    """Made as `Class(…)`, it is an instance of `Class` and of the framework's class; it can be pickled.

    Raises ConfigError where none of the packages is installed.
    """

    #: Package → its class, of each package that may be meant; where several are imported, all are extended.
    _EXTENDS: ClassVar[Mapping[str, str]]
    #: The class as it was written.
    _written: ClassVar[type[Extension]]

    def __new__(cls, *_given: Any, **_named: Any) -> Self:
        extended: Any = _extended
        return cast(Self, object.__new__(extended(cls, _packages(cls))))

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return _revived, (self._written, self.__dict__)


def _packages(written: type[Extension]) -> tuple[str, ...]:
    """The packages that are imported; where there is none yet, the first that is installed."""
    known = written._EXTENDS
    if imported := tuple(package for package in known if package in sys.modules):
        return imported
    for package in known:
        if find_spec(package.partition(".")[0]) is not None:
            return (package,)
    package = next(iter(known)).partition(".")[0]
    raise ConfigError(f"{written.__module__}.{written.__qualname__} needs {package}: pip install {package}")


@cache
def _extended(written: type[Extension], packages: tuple[str, ...]) -> type[Extension]:
    for package in packages:
        if (distribution := package.partition(".")[0].replace("_", "-")) in TESTED:
            check_version(distribution)
    bases = [attrgetter(written._EXTENDS[package])(import_module(package)) for package in packages]
    members = {"_written": written, "__module__": written.__module__, "__doc__": written.__doc__}
    made = new_class(written.__name__, (written, *bases), exec_body=lambda space: space.update(members))
    made.__qualname__ = written.__qualname__
    return made


def _revived(written: type[Extension], state: dict[str, Any]) -> Extension:
    made = written.__new__(written)
    made.__dict__.update(state)
    return made
