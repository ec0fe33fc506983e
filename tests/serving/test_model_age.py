"""Model age: whoever is asked says when a version was made, or that it does not know."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from entrenar_otel import Monitor
from entrenar_otel.errors import LineageError
from entrenar_otel.lineage import VersionId
from entrenar_otel.lineage.sidecar import path_beside
from entrenar_otel.serving.model_age import made_at

VERSION = VersionId("digits", "1.0.0")


@pytest.fixture
def trained(start: Callable[..., Monitor]) -> datetime:
    before = datetime.now(UTC)
    monitor = start("r", model_id="digits", version="1.0.0")
    monitor.log(accuracy=0.5)
    monitor.save_sidecar("model.pt")
    monitor.close()
    return before


def test_who_says_it(trained: datetime) -> None:
    given = datetime(2026, 1, 2)  # noqa: DTZ001 - UTC is assumed
    assert made_at(VERSION, created_at=given, lake="lake") == given.replace(tzinfo=UTC)
    for asked in ({"lake": "lake"}, {"checkpoint": "model.pt"}):
        made = made_at(VERSION, **asked)  # type: ignore[arg-type]
        assert made is not None
        assert trained - timedelta(seconds=1) <= made <= datetime.now(UTC)
    assert made_at(VERSION) is None


def test_who_does_not_know(trained: datetime) -> None:
    with pytest.raises(LineageError, match=r"other.pt has no sidecar"):
        made_at(VERSION, checkpoint="other.pt")
    with pytest.raises(
        LineageError, match=r"model.pt is digits@1.0.0; the model in service was said to be m@2"
    ):
        made_at(VersionId("m", "2"), checkpoint="model.pt")
    document = json.loads(path_beside("model.pt").read_text())
    for odd in (None, "yesterday"):
        path_beside("model.pt").write_text(json.dumps(document | {"created_at": odd}))
        with pytest.raises(LineageError, match="does not say when it was made"):
            made_at(VERSION, checkpoint="model.pt")
