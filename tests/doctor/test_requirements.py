"""Requirements of the metadata, against the library that defines them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.requirements import Requirement as Reference
from packaging.specifiers import SpecifierSet

from entrenar_otel.doctor import requirements
from entrenar_otel.doctor.requirements import Requirement, is_within

NUMBERS = st.lists(st.integers(0, 12), min_size=1, max_size=3).map(lambda part: ".".join(map(str, part)))
SIGNS = st.sampled_from([">=", "<=", "<", ">", "==", "!="])


@given(NUMBERS, st.lists(st.tuples(SIGNS, NUMBERS), max_size=3))
def test_a_range_means_what_packaging_says(version: str, clauses: list[tuple[str, str]]) -> None:
    tested = ",".join(sign + number for sign, number in clauses)
    assert is_within(version, tested) is SpecifierSet(tested).contains(version)


@pytest.mark.parametrize(
    "text",
    [
        *("numpy>=1.26", "opentelemetry-sdk<1.46,>=1.40", "x", "moto[server]>=5; extra == 'dev'"),
        *('ruff>=0.9; extra == "docs"', "a (>=1)", 'b>=1; python_version < "3.12" and extra == "view"'),
    ],
)
def test_a_requirement_is_read_as_packaging_reads_it(text: str) -> None:
    ours, reference = Requirement.parse(text), Reference(text)
    assert (ours.name, SpecifierSet(ours.range)) == (reference.name, reference.specifier)
    extras = [one for one in ("dev", "docs", "view") if reference.marker and one in str(reference.marker)]
    assert ours.extra == (extras[0] if extras else None)


def test_the_letters_behind_a_version_are_not_looked_at() -> None:
    assert is_within("2.0rc1", ">=2")
    assert is_within("v0.0.21", "==0.0.21")
    assert is_within("0.61b0", ">=0.61b0")


def test_what_is_installed() -> None:
    """By the metadata of this environment; none where the package is not installed."""
    numpy = Requirement("numpy", ">=1.26")
    assert numpy.installed is not None
    assert numpy.is_met
    assert not Requirement("numpy", ">=999").is_met
    assert Requirement("no-such-package-anywhere").installed is None
    assert {one.name for one in requirements.requirements()} >= {"numpy", "duckdb"}


def test_a_package_that_runs_from_a_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requirements, "PACKAGE", "no-such-package-anywhere")
    assert requirements.requirements() == []
