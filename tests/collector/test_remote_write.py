"""remote-write.yaml: a gateway writes what a run sends into a real Prometheus."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from entrenar_otel import Monitor

from .process import Collector, free_port
from .traffic import wait_until


@pytest.fixture
def prometheus(tmp_path: Path) -> Iterator[str]:
    """The address of a Prometheus that takes remote write."""
    (tmp_path / "prometheus.yml").write_text("{}")
    address = f"127.0.0.1:{free_port()}"
    command = ["prometheus", "--config.file=prometheus.yml", "--storage.tsdb.path=tsdb"]
    with (tmp_path / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--web.enable-remote-write-receiver", f"--web.listen-address={address}"],
            cwd=tmp_path,
            stdout=log,
            stderr=log,
        )
    yield address
    process.terminate()
    process.wait()


def answer(address: str, query: str) -> list[dict[str, Any]]:
    """What Prometheus answers; nothing while it does not listen."""
    try:
        got = httpx.get(f"http://{address}/api/v1/query", params={"query": query}, trust_env=False)
    except httpx.TransportError:
        return []
    return list(got.json()["data"]["result"]) if got.status_code == 200 else []


def test_a_run_is_in_prometheus(
    make_collector: Callable[..., Collector], prometheus: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the labels that the gateway's page has, and the value that was logged last."""
    gateway = make_collector(
        "gateway",
        *("gateway.yaml", "remote-write.yaml"),
        REMOTE_WRITE_URL=f"http://{prometheus}/api/v1/write",
        SINK_ENDPOINT="127.0.0.1:9",
    ).start()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", gateway.endpoint)
    with Monitor("r", lake="lake", settings_file=None, quiet=True, model_id="digits") as monitor:
        for step in range(100):
            monitor.log(step=step, loss=1 / (1 + step))
    wait_until(lambda: answer(prometheus, "training_loss"))
    (series,) = answer(prometheus, "training_loss")
    (on_page,) = [one for one in gateway.samples() if one.name == "training_loss"]
    assert series["metric"] == {"__name__": "training_loss", **on_page.labels}
    assert float(series["value"][1]) == on_page.value == 1 / 100
    (state,) = answer(prometheus, "max by (run_id, rank) (training_run_state)")
    assert (state["metric"], state["value"][1]) == ({"run_id": "r", "rank": "0"}, "4")
