"""docker-compose.yml as a new user starts it: what is up, who hears it, what is seen of a run, what stays."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
import yaml

from entrenar_otel import Monitor
from entrenar_otel.lake import Lake
from tests.collector.process import ROOT, free_port
from tests.collector.prometheus import Api
from tests.collector.traffic import Trainer

from .conftest import Docker

FILE = ROOT / "docker-compose.yml"
#: The ports that are published, by docker-compose.yml's variables.
PORTS = {
    "OTLP_GRPC_PORT": 4317,
    "OTLP_HTTP_PORT": 4318,
    "COLLECTOR_HEALTH_PORT": 13133,
    "PROMETHEUS_PORT": 9090,
    "ALERTMANAGER_PORT": 9093,
    "GRAFANA_PORT": 3000,
}


def compose_commands() -> list[list[str]]:
    """Docker Compose 2 or newer, and docker-compose 1.29, as this machine has them."""
    commands = [["docker", "compose"], ["docker-compose"]]
    return [
        command
        for command in commands
        if shutil.which(command[0])
        and not subprocess.run([*command, "version"], capture_output=True, check=False).returncode
    ]


class Compose:
    """A project of docker-compose.yml on free ports."""

    def __init__(self, command: list[str], **environment: str) -> None:
        self.ports = {name: free_port() for name in PORTS}
        self._command = [
            *command,
            "-p",
            f"entrenar-{uuid4().hex[:8]}",
            "-f",
            str(ROOT / "docker-compose.yml"),
        ]
        self._environment = os.environ | {name: str(port) for name, port in self.ports.items()} | environment

    def __call__(self, *arguments: str) -> str:
        """Run one of its commands; what that printed."""
        command = [*self._command, *arguments]
        done = subprocess.run(command, env=self._environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{' '.join(arguments)}: {done.stderr}\n{self.logs()}"
        return done.stdout

    def logs(self) -> str:
        command = [*self._command, "logs", "--tail", "20"]
        done = subprocess.run(command, env=self._environment, capture_output=True, text=True, check=False)
        return done.stdout

    def containers(self) -> dict[str, Any]:
        """What the engine says of each service's container."""
        ids = self("ps", "-a", "-q").split()
        told = json.loads(subprocess.run(["docker", "inspect", *ids], capture_output=True, check=True).stdout)
        return {one["Config"]["Labels"]["com.docker.compose.service"]: one for one in told}

    def in_lake(self, sql: str) -> list[dict[str, Any]]:
        """What the sink's own command says of its lake."""
        told = self("exec", "-T", "sink", "entrenar-otel", "query", "--format", "json", sql)
        rows: list[dict[str, Any]] = json.loads(told)
        return rows


@pytest.fixture
def make_project(docker: Docker) -> Iterator[Callable[..., Compose]]:
    """Makes projects, which go with all that is theirs."""
    commands = compose_commands()
    if not commands and not os.environ.get("CI"):
        pytest.skip("CONTAINERS ARE NOT TESTED HERE: install Docker Compose (Debian: docker-compose).")
    made: list[Compose] = []

    def make(**environment: str) -> Compose:
        made.append(Compose(commands[0], **environment))
        return made[-1]

    yield make
    for project in made:
        project("down", "--volumes", "--timeout", "60")


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


def test_grafana_shows_what_prometheus_has(
    docker: Docker, make_project: Callable[..., Compose], until: Callable[..., None]
) -> None:
    """Whoever reaches it sees every dashboard and changes nothing. Its image cannot be made here."""
    if "GRAFANA_IMAGE" not in docker.images:
        pytest.skip("GRAFANA IS NOT TESTED HERE: its image cannot be pulled.")
    project = make_project()
    project("up", "-d", "grafana")
    url = f"http://127.0.0.1:{project.ports['GRAFANA_PORT']}/api"
    until(lambda: httpx.get(f"{url}/health", trust_env=False).is_success)
    dashboards = list((ROOT / "dashboards").glob("*.json"))
    until(lambda: len(httpx.get(f"{url}/search?type=dash-db", trust_env=False).json()) == len(dashboards))
    query = {"refId": "A", "datasource": {"uid": "prometheus"}, "expr": "up", "instant": True}
    asked = {"queries": [query], "from": "now-5m", "to": "now"}
    until(lambda: "frames" in httpx.post(f"{url}/ds/query", json=asked, trust_env=False).text)
    assert httpx.post(f"{url}/folders", json={"title": "mine"}, trust_env=False).status_code in (401, 403)


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
