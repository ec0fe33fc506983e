"""Numbers and curves as they stand in tables."""

from __future__ import annotations

from entrenar_otel.cli.tables import _config_line, sparkline
from entrenar_otel.views.numbers import number


def test_numbers_and_curves_at_a_glance() -> None:
    """Four digits, whole numbers in full; a curve from low to high, flat where it is constant."""
    assert [number(v) for v in (None, "NaN", 3.0, 1234567, 0.123456, 1e-9, 1e12)] == [
        "–", "NaN", "3", "1,234,567", "0.1235", "1e-09", "1e+12"]  # fmt: skip
    assert sparkline([1, None, 3]) == "▁ █"
    assert sparkline([0.05, 0.05 + 1e-17, 0.05 * (1 + 1e-15)]) == "▁▁▁"
    assert (sparkline([]), sparkline([1]), sparkline(["NaN", 1])) == ("", "", "")


def test_a_long_configuration_is_told_in_short() -> None:
    """As Hugging Face's: what is off, empty or a table is counted; a short one is whole."""
    short = {"lr": 0.1, "debug": False, "betas": [0.9, 0.99]}
    assert _config_line(short) == "lr=0.1, debug=False, betas=[0.9, 0.99]"
    told = _config_line(short | {"model": {f"size_{at}": at for at in range(200)}})
    assert told == "lr=0.1, … 3 more (off, empty or tables): --json"
