"""remote-write.yaml: a gateway writes what a run sends into a real Prometheus."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from entrenar_otel import Monitor

from .process import Collector
from .prometheus import Prometheus
from .traffic import wait_until


def test_a_run_is_in_prometheus(
    make_collector: Callable[..., Collector],
    make_prometheus: Callable[..., Prometheus],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With the labels that the gateway's page has, and the value that was logged last."""
    asked = make_prometheus(3, {}, "--web.enable-remote-write-receiver")
    gateway = make_collector(
        "gateway",
        *("gateway.yaml", "remote-write.yaml"),
        REMOTE_WRITE_URL=f"http://{asked.address}/api/v1/write",
        SINK_ENDPOINT="127.0.0.1:9",
    ).start()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", gateway.endpoint)
    with Monitor("r", lake="lake", settings_file=None, quiet=True, model_id="digits") as monitor:
        for step in range(100):
            monitor.log(step=step, loss=1 / (1 + step))
    wait_until(lambda: asked.query("training_loss"))
    ((labels, value),) = asked.query("training_loss").items()
    (on_page,) = [one for one in gateway.samples() if one.name == "training_loss"]
    assert dict(labels) == {"__name__": "training_loss", **on_page.labels}
    assert float(value) == on_page.value == 1 / 100
    state = asked.query("max by (run_id, rank) (training_run_state)")
    assert state == {frozenset({("run_id", "r"), ("rank", "0")}): "4"}
