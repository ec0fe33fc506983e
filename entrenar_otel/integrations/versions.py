"""Versions: with which of a framework its integration is tested; another one is said, and used."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, version
from typing import NamedTuple

from entrenar_otel.console import logger


class Tested(NamedTuple):
    """The oldest and the newest version that `make test-frameworks` runs, both included."""

    oldest: str
    newest: str


#: By package; the oldest is the lower bound in the extra `frameworks`.
TESTED = {
    "accelerate": Tested("1.1", "1.15"),
    "flax": Tested("0.10", "0.12"),
    "jax": Tested("0.4.34", "0.10"),
    "keras": Tested("3.6", "3.15"),
    "lightgbm": Tested("4.5", "4.7"),
    "lightning": Tested("2.4", "2.6"),
    "optax": Tested("0.2.3", "0.2"),
    "pytorch-lightning": Tested("2.4", "2.6"),
    "scikit-learn": Tested("1.5", "1.9"),
    "transformers": Tested("4.46", "5.24"),
    "xgboost-cpu": Tested("2.1.2", "3.2"),
}
#: Packages that are another build of one that is tested.
_BUILDS = {"xgboost": "xgboost-cpu"}
_said: set[str] = set()


def check_version(package: str, found: str | None = None) -> bool:
    """Whether an installed package is one of the tested versions; else a warning, once, and training goes on.

    `found` is the version, by default that of the installed package. A release of the newest minor version
    is within the range, whatever its patch.

    >>> check_version("transformers", "5.24.3"), check_version("transformers", "4.46.0")
    (True, True)
    """
    tested = TESTED[_BUILDS.get(package, package)]
    if found is None:
        try:
            found = version(package)
        except PackageNotFoundError:  # a build of another name, or a source tree
            return True
    oldest, newest, this = (_numbers(text) for text in (*tested, found))
    if oldest <= this and this[: len(newest)] <= newest:
        return True
    if package not in _said:
        _said.add(package)
        is_older = this < oldest
        logger.warning(
            "%s %s is %s than what entrenar-otel is tested with (%s to %s): it may record less, or fail. %s",
            package,
            found,
            "older" if is_older else "newer",
            *tested,
            f"pip install '{package}>={tested.oldest}'" if is_older else "Look for a newer entrenar-otel",
        )
    return False


def _numbers(text: str) -> tuple[int, ...]:
    """The release number of a version: `5.24.0rc1` is 5, 24, 0."""
    release = re.match(r"\d+(?:\.\d+)*", text)
    return tuple(int(part) for part in release[0].split(".")) if release else ()
