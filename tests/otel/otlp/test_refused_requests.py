"""Refused requests: kept for a person, up to a size, and read up to the first that is torn."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrenar_otel.otel.otlp import refused_requests
from entrenar_otel.otel.otlp.refused_requests import keep_refused, read_refused


def test_they_are_kept_in_order(tmp_path: Path) -> None:
    """And nobody else may read them."""
    for request in (b"one", b"", b"three"):
        assert keep_refused(tmp_path, "p", request)
    assert read_refused(tmp_path / "p.refused") == [b"one", b"", b"three"]
    assert (tmp_path / "p.refused").stat().st_mode & 0o777 == 0o600


@given(cut=st.integers(0, 100), requests=st.lists(st.binary(max_size=20), max_size=4))
def test_a_file_that_is_torn_has_those_before(
    cut: int, requests: list[bytes], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("torn")
    for request in requests:
        keep_refused(folder, "p", request)
    path = folder / "p.refused"
    data = path.read_bytes() if requests else b""
    path.write_bytes(data[:cut])
    found = read_refused(path)
    assert found == requests[: len(found)]
    assert len(found) == len(requests) or cut < len(data)


def test_damage_ends_it(tmp_path: Path) -> None:
    for request in (b"one", b"two"):
        keep_refused(tmp_path, "p", request)
    path = tmp_path / "p.refused"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert read_refused(path) == [b"one"]


def test_beyond_a_size_none_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refused_requests, "MAX_BYTES", 100)
    assert keep_refused(tmp_path, "p", bytes(50))
    assert not keep_refused(tmp_path, "p", bytes(50))
    assert read_refused(tmp_path / "p.refused") == [bytes(50)]


def test_where_none_can_be_kept(tmp_path: Path) -> None:
    """No folder, or a link to something else, which is not written to."""
    assert not keep_refused(tmp_path / "gone", "p", b"x")
    (tmp_path / "other").write_bytes(b"")
    (tmp_path / "p.refused").symlink_to("other")
    assert not keep_refused(tmp_path, "p", b"x")
    assert (tmp_path / "other").read_bytes() == b""
