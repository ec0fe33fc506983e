"""Requirements: what the package's own metadata asks for, and whether what is installed meets it."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from itertools import zip_longest

PACKAGE = "entrenar-otel"
_REQUIREMENT = re.compile(r"\s*([\w.-]+)\s*(?:\[[^\]]*\])?\s*\(?([^;)]*)\)?\s*(?:;(.*))?")
_EXTRA = re.compile(r"""extra\s*==\s*['"]([\w-]+)['"]""")
_CLAUSE = re.compile(r"\s*(===?|!=|<=|>=|<|>|~=)\s*v?(\d+(?:\.\d+)*)")
_COMPARE: dict[str, Callable[[int, int], bool]] = {
    "==": operator.eq,
    "===": operator.eq,
    "!=": operator.ne,
    "<=": operator.le,
    ">=": operator.ge,
    "~=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}


@dataclass(frozen=True)
class Requirement:
    """A library, the range of its versions that is tested, and the extra that asks for it."""

    name: str
    range: str = ""
    extra: str | None = None

    @classmethod
    def parse(cls, text: str) -> Requirement:
        """As it stands in the metadata.

        >>> Requirement.parse('opentelemetry-sdk<1.46,>=1.40; extra == "otlp"')
        Requirement(name='opentelemetry-sdk', range='<1.46,>=1.40', extra='otlp')
        """
        match = _REQUIREMENT.match(text)
        if match is None:
            return cls(text)
        extra = _EXTRA.search(match[3] or "")
        return cls(match[1], match[2].strip(), extra and extra[1])

    @property
    def installed(self) -> str | None:
        """The version that is installed, None without one."""
        try:
            return version(self.name)
        except PackageNotFoundError:
            return None

    @property
    def is_met(self) -> bool:
        """Whether a version of the range is installed."""
        installed = self.installed
        return installed is not None and is_within(installed, self.range)


def requirements() -> list[Requirement]:
    """All of them; none where the package runs from a folder and is not installed."""
    try:
        return [Requirement.parse(text) for text in requires(PACKAGE) or ()]
    except PackageNotFoundError:
        return []


def is_within(version: str, tested: str) -> bool:
    """Whether a version is in a range, by its numbers; what is no number is not looked at.

    >>> is_within("1.45.2", ">=1.40,<1.46"), is_within("1.46.0", ">=1.40,<1.46"), is_within("2.0rc1", ">=2")
    (True, False, True)
    """
    ours = _numbers(version)
    for sign, given in _CLAUSE.findall(tested):
        pairs = list(zip_longest(ours, _numbers(given), fillvalue=0))
        left, right = next(((a, b) for a, b in pairs if a != b), (0, 0))
        if not _COMPARE[sign](left, right):
            return False
    return True


def _numbers(version: str) -> list[int]:
    match = re.match(r"(?:\d+!)?v?(\d+(?:\.\d+)*)", version.strip())
    return [int(part) for part in match[1].split(".")] if match else []
