"""Grafana of docker-compose.yml: it finds the dashboards, and Prometheus answers every panel of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from entrenar_otel import Monitor
from tests.collector.process import ROOT

from .compose import Compose
from .conftest import Docker
from .grafana import Grafana


def committed() -> dict[str, dict[str, Any]]:
    """The dashboards by uid."""
    made = [json.loads(path.read_text()) for path in (ROOT / "dashboards").glob("*.json")]
    return {one["uid"]: one for one in made}


def test_grafana_shows_what_prometheus_has(
    docker: Docker,
    make_project: Callable[..., Compose],
    until: Callable[..., None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever reaches it sees every dashboard and changes nothing. Its image cannot be made here."""
    if "GRAFANA_IMAGE" not in docker.images:
        pytest.skip("GRAFANA IS NOT TESTED HERE: its image cannot be pulled.")
    project = make_project()
    project("up", "-d", "collector", "grafana")
    grafana = Grafana(f"127.0.0.1:{project.ports['GRAFANA_PORT']}")
    until(lambda: grafana.client.get("/health").is_success)
    until(lambda: grafana.dashboards().keys() == committed().keys())
    step = {"refId": "A", "expr": "training_progress_step", "instant": True}
    endpoint = f"http://127.0.0.1:{project.ports['OTLP_GRPC_PORT']}"
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
    with Monitor("shown", lake=tmp_path / "near", settings_file=None, quiet=True) as monitor:
        monitor.log(step=7, loss=0.25)
        until(lambda: grafana.answers([step])["A"]["frames"][0]["data"]["values"])
        for uid, dashboard in grafana.dashboards().items():
            assert [one["title"] for one in dashboard["panels"]] == [
                one["title"] for one in committed()[uid]["panels"]
            ]
            assert grafana.problems(dashboard) == []
        check_names(grafana)
    assert grafana.client.post("/folders", json={"title": "mine"}).status_code in (401, 403)


def check_names(grafana: Grafana) -> None:
    """Frames have the names that tests/grafana/node/transform.js gives them."""
    panels = committed()["entrenar-run"]["panels"]
    (panel,) = [one for one in panels if one["title"] == "Loss by step"]
    answers = grafana.answers(panel["targets"])
    for letter, name, value in (("A", "step", 7), ("B", "train", 0.25)):
        (frame,) = answers[letter]["frames"]
        times, values = frame["schema"]["fields"]
        assert (times["name"], values["name"]) == ("Time", "Value")
        assert values["labels"] == {"run_id": "shown"}
        assert values["config"]["displayNameFromDS"] == name
        assert frame["data"]["values"][1][-1] == value
    (nothing,) = answers["C"]["frames"]
    assert nothing["schema"].get("fields", []) == []


def test_what_grafana_cannot_ask_for_is_found() -> None:
    """A query that fails, an answer that lacks one, and a data source that there is not."""

    def answer(request: httpx.Request) -> httpx.Response:
        (query,) = json.loads(request.content)["queries"]
        if query["expr"] == "wrong(":
            return httpx.Response(400, json={"results": {"A": {"error": "parse error", "status": 400}}})
        if query["expr"] == "nowhere":
            return httpx.Response(404, json={"message": "data source not found"})
        results = {"A": {"status": 200, "frames": [{}]}} if query["expr"] == 'up{r=".*"}' else {}
        return httpx.Response(207, json={"results": results})

    grafana = Grafana("grafana", httpx.MockTransport(answer))
    made: dict[str, Any] = {
        "panels": [
            {"title": expr, "type": "stat", "targets": [{"refId": "A", "expr": expr}]}
            for expr in ("wrong(", "nowhere", "silent", 'up{r="$run"}')
        ],
        "annotations": {"list": [{"name": "note", "target": {"refId": "A", "expr": "wrong("}}]},
    }
    made["panels"].append({"title": "a row", "type": "row"})
    found = grafana.problems(made)
    assert [one.split(" A: ")[0] for one in found] == ["wrong(", "nowhere", "silent", "note"]
    assert "parse error" in found[0]
    assert "data source not found" in found[1]
