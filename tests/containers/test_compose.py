"""docker-compose.yml as a new user starts it: what is up, who hears it, what is seen of a run, what stays."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
import yaml

from entrenar_otel import Monitor
from entrenar_otel.lake import Lake
from tests.collector.process import ROOT
from tests.collector.prometheus import Api
from tests.collector.traffic import Trainer

from .compose import PORTS, Compose, compose_commands
from .conftest import Docker


def services(docker: Docker) -> list[str]:
    """All, but Grafana only where its image can be pulled: it cannot be made here."""
    grafana = ["grafana"] if "GRAFANA_IMAGE" in docker.images else []
    return ["collector", "sink", "prometheus", "alertmanager", *grafana]


def is_well(project: Compose, docker: Docker) -> bool:
    """Whether each service runs and says that it is healthy: the Collector, without a shell, on its port."""
    states = {name: one["State"] for name, one in project.containers().items()}
    assert set(states) == set(services(docker))
    well = {name: state.get("Health", {}).get("Status") for name, state in states.items()}
    assert well.pop("collector") is None
    health = httpx.get(f"http://127.0.0.1:{project.ports['COLLECTOR_HEALTH_PORT']}", trust_env=False)
    return set(well.values()) == {"healthy"} and health.status_code == 200


def test_a_run_is_watched_and_its_lake_stays(
    docker: Docker,
    make_project: Callable[..., Compose],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    until: Callable[..., None],
) -> None:
    """Without an .env file: from `up` to a query, an alert, a restart, `down` and `up` again."""
    project = make_project()
    project("up", "-d", *services(docker))
    until(lambda: is_well(project, docker))
    published = [
        binding["HostIp"]
        for one in project.containers().values()
        for bindings in one["NetworkSettings"]["Ports"].values()
        for binding in bindings or []
    ]
    assert set(published) == {"127.0.0.1"}
    assert len(published) == len(PORTS) - ("grafana" not in services(docker))
    prometheus = Api(f"127.0.0.1:{project.ports['PROMETHEUS_PORT']}")
    until(lambda: len(prometheus.query("up == 1")) == 5)  # every target of prometheus.yml

    endpoint = f"http://127.0.0.1:{project.ports['OTLP_GRPC_PORT']}"
    trainer = Trainer(tmp_path, endpoint, "watched").start()
    step = 'training_progress_step{run_id="watched"}'
    until(lambda: prometheus.query(step))
    first = prometheus.value(step)
    until(lambda: prometheus.query(f"{step} > {first}"))  # it is watched as it goes on
    prometheus.close()
    trainer.stop()
    all_steps = "SELECT count(DISTINCT step) AS steps, count(*) AS n FROM metrics WHERE metric = 'value'"
    until(lambda: project.in_lake(all_steps) == [{"steps": trainer.logged, "n": trainer.logged}])

    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
    with Monitor("diverged", lake=tmp_path / "near", settings_file=None, quiet=True) as monitor:
        monitor.log(step=1, loss=float("nan"), tags={"split": "test"})  # an alert
        alerts = f"http://127.0.0.1:{project.ports['ALERTMANAGER_PORT']}/api/v2/alerts"
        told = "diverged"
        until(lambda: told in httpx.get(alerts, trust_env=False).text)
    until(lambda: "diverged" in project("exec", "-T", "sink", "entrenar-otel", "ls"))
    until(lambda: len(project.in_lake("SELECT * FROM runs WHERE state = 'completed'")) == 2)

    rows = project.in_lake("SELECT hash(value) AS value FROM metrics ORDER BY ALL")
    project("restart", "sink")
    until(lambda: is_well(project, docker))
    assert project.in_lake("SELECT hash(value) AS value FROM metrics ORDER BY ALL") == rows
    project("down")
    project("up", "-d", *services(docker))
    until(lambda: is_well(project, docker))
    assert project.in_lake("SELECT hash(value) AS value FROM metrics ORDER BY ALL") == rows


def test_the_lake_may_be_a_folder_of_this_machine(
    docker: Docker, make_project: Callable[..., Compose], tmp_path: Path, until: Callable[..., None]
) -> None:
    """Its files belong to whoever says so; the sink ends in order, with everything in it."""
    folder = tmp_path / "team-lake"
    folder.mkdir()
    me = f"{os.getuid() or 4321}:{os.getgid() or 4321}"
    if os.getuid() == 0:
        os.chown(folder, 4321, 4321)
    project = make_project(ENTRENAR_LAKE=str(folder), SINK_USER=me)
    project("up", "-d", "collector")  # and the sink, which it needs
    trainer = Trainer(tmp_path, f"http://127.0.0.1:{project.ports['OTLP_GRPC_PORT']}").start()
    trainer.wait_for(3000)
    trainer.stop()
    lake = Lake(folder, tmp_path / "none")
    until(lambda: [run.state for run in lake.runs()] == ["completed"])
    project("stop", "sink")
    state = project.containers()["sink"]["State"]
    assert state["ExitCode"] == 0, project.logs()
    assert trainer.arrived(lake).is_exact
    assert {f"{path.stat().st_uid}:{path.stat().st_gid}" for path in folder.rglob("*")} == {me}


def test_compose_builds_the_sink(docker: Docker, make_project: Callable[..., Compose]) -> None:
    """From what is in the checkout, without more than the base image."""
    image = f"entrenar-otel/sink:{uuid4().hex[:8]}"
    make_project(SINK_IMAGE=image)("build", "sink")
    user = ["docker", "image", "inspect", "--format", "{{.Config.User}}", image]
    assert subprocess.run(user, capture_output=True, text=True, check=True).stdout.strip() == "10001:10001"
    subprocess.run(["docker", "rmi", image], check=True, capture_output=True)


@pytest.mark.parametrize("command", compose_commands(), ids=" ".join)
def test_every_compose_reads_it(command: list[str], tmp_path: Path) -> None:
    """Old and new; what is published is so on loopback alone, and images are pinned."""
    told = subprocess.run(
        [*command, "-f", str(ROOT / "docker-compose.yml"), "config"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 0, told.stderr
    config = yaml.safe_load(told.stdout)["services"]
    assert set(config) == {"collector", "sink", "prometheus", "alertmanager", "grafana"}
    published = [port for one in config.values() for port in one.get("ports", [])]
    assert len(published) == len(PORTS)
    for port in published:
        host = port["host_ip"] if isinstance(port, dict) else port.split(":")[0]
        assert host == "127.0.0.1"
    for name, one in config.items():
        assert name == "sink" or one["image"].rpartition(":")[2][:1] in "v0123456789", one["image"]
        assert not [key for key in one.get("environment") or {} if "PASSWORD" in key or "SECRET" in key]


def test_prometheus_reads_its_configuration() -> None:
    """With all rules."""
    path = ROOT / "collector-config/prometheus.yml"
    done = subprocess.run(["promtool", "check", "config", path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "rule files found" in done.stdout
