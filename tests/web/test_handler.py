"""What a client prefers, and whether it sent the token."""

from __future__ import annotations

import pytest

from entrenar_otel.web.handler import has_token, weight


@pytest.mark.parametrize(
    ("accepted", "wanted"),
    [
        (None, 0.0),
        ([], 0.0),
        (["gzip"], 1.0),
        (["deflate, GZIP;q=0.5"], 0.5),
        (["deflate", "gzip; q=0"], 0.0),
        (["gzip;q=nonsense"], 1.0),
        (["xgzip"], 0.0),
    ],
)
def test_weight(accepted: list[str] | None, wanted: float) -> None:
    assert weight(accepted, "gzip") == wanted


@pytest.mark.parametrize(
    ("authorization", "wanted", "may"),
    [
        ("", b"", True),
        ("", b"s3cret", False),
        ("Bearer s3cret", b"s3cret", True),
        ("bearer  s3cret ", b"s3cret", True),
        ("Basic s3cret", b"s3cret", False),
        ("s3cret", b"s3cret", False),
        ("Bearer s3cret2", b"s3cret", False),
        ("Bearer \u2603", b"s3cret", False),
    ],
)
def test_token(authorization: str, wanted: bytes, may: bool) -> None:
    assert has_token(authorization, wanted, "latin-1") is may
