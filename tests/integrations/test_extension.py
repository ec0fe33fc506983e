"""Classes that extend a framework's, found when they are needed."""

from __future__ import annotations

import copy
import pickle
import sys
from types import ModuleType
from typing import Any, ClassVar

import pytest

from entrenar_otel.errors import ConfigError
from entrenar_otel.integrations.extension import Extension


class OfEither(Extension):
    """Of one of two packages, or of both."""

    _EXTENDS: ClassVar = {"logging": "Handler", "html.parser": "HTMLParser"}

    def __init__(self, number: int = 1) -> None:
        self.number = number


class OfNone(Extension):
    _EXTENDS: ClassVar = {"no_such_package.there": "Callback"}


def test_it_extends_what_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    import html.parser
    import logging

    assert isinstance(OfEither(), OfEither)
    assert isinstance(OfEither(), logging.Handler)
    assert isinstance(OfEither(), html.parser.HTMLParser)
    monkeypatch.delitem(sys.modules, "html.parser")
    assert isinstance(OfEither(), logging.Handler)
    assert not isinstance(OfEither(), html.parser.HTMLParser)


def test_it_imports_what_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    class OfUnused(Extension):
        _EXTENDS: ClassVar = {"no_such_package": "Callback", "html.parser": "HTMLParser"}

    monkeypatch.delitem(sys.modules, "html.parser", raising=False)
    assert type(OfUnused()).__mro__[-3].__name__ in ("HTMLParser", "ParserBase")


def test_a_package_that_is_missing() -> None:
    with pytest.raises(ConfigError, match=r"OfNone needs no_such_package: pip install no_such_package"):
        OfNone()


def test_copies_are_of_the_same_class() -> None:
    for made in (pickle.loads(pickle.dumps(OfEither(7))), copy.deepcopy(OfEither(7))):
        assert type(made) is type(OfEither())
        assert type(made).__qualname__ == "OfEither"
        assert made.number == 7


def test_a_class_of_the_users_own() -> None:
    class Mine(OfEither):
        def more(self) -> int:
            return self.number + 1

    assert Mine(number=2).more() == 3
    assert isinstance(Mine(), OfEither)


def test_a_version_that_is_not_tested_is_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from entrenar_otel.integrations import versions

    old: Any = ModuleType("old_framework")
    old.Callback = type("Callback", (), {})
    monkeypatch.setitem(sys.modules, "old_framework", old)
    monkeypatch.setitem(versions.TESTED, "old-framework", versions.Tested("9.1", "9.9"))
    monkeypatch.setattr(versions, "version", lambda name: "8.0")

    class OfOld(Extension):
        _EXTENDS: ClassVar = {"old_framework": "Callback"}

    OfOld()
    OfOld()
    (record,) = [one for one in caplog.records if "old-framework" in one.getMessage()]
    assert "older" in record.getMessage()
