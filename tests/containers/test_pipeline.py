"""Trainer on this machine → Collector → sink → Parquet, and → Prometheus, each in a container of its own."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from entrenar_otel.lake import Lake
from tests.collector.process import ROOT
from tests.collector.prometheus import Api
from tests.collector.test_pipeline import all_is_there, train

from .conftest import SECONDS, Docker

if TYPE_CHECKING:
    from testcontainers.core.container import DockerContainer
    from testcontainers.core.network import Network
    from testcontainers.core.wait_strategies import WaitStrategy

ALL_IS_STORED = "SELECT count(*) FROM runs WHERE state = 'completed'"


@pytest.fixture
def network(docker: Docker) -> Iterator[Network]:
    """One whose containers publish their ports on loopback alone."""
    from testcontainers.core.config import testcontainers_config
    from testcontainers.core.network import Network

    testcontainers_config.ryuk_disabled = (
        True  # its image is not to be had everywhere; what is made here ends here
    )
    testcontainers_config.tc_host_override = "127.0.0.1"
    with Network(
        docker_network_kw={"options": {"com.docker.network.bridge.host_binding_ipv4": "127.0.0.1"}}
    ) as network:
        yield network


@pytest.fixture
def start(network: Network) -> Iterator[Callable[..., DockerContainer]]:
    """Starts a container that the others find by its name; returns when it is ready."""
    from testcontainers.core.container import DockerContainer

    made: list[DockerContainer] = []

    def start(
        name: str, image: str, ready: WaitStrategy, *ports: int, temporary: str = "", **kwargs: Any
    ) -> DockerContainer:
        container = DockerContainer(
            image, network=network, network_aliases=[name], ports=list(ports), **kwargs
        )
        if temporary:
            container.with_tmpfs_mount(temporary)
        made.append(container.waiting_for(ready.with_startup_timeout(SECONDS)))
        return made[-1].start()

    yield start
    for container in made:
        container.stop()


@pytest.fixture
def sink(docker: Docker, start: Callable[..., DockerContainer]) -> DockerContainer:
    from testcontainers.core.wait_strategies import HealthcheckWaitStrategy

    return start("sink", docker.images["SINK_IMAGE"], HealthcheckWaitStrategy())


@pytest.fixture
def collector(
    docker: Docker, sink: DockerContainer, start: Callable[..., DockerContainer]
) -> DockerContainer:
    from testcontainers.core.wait_strategies import LogMessageWaitStrategy

    return start(
        "collector",
        docker.images["COLLECTOR_IMAGE"],
        LogMessageWaitStrategy("Everything is ready"),
        4317,
        command=["--config", "/etc/collector/all-in-one.yaml"],
        env={
            "SINK_ENDPOINT": "sink:4317",
            "COLLECTOR_GRPC": "0.0.0.0:4317",
            "COLLECTOR_PROMETHEUS": "0.0.0.0:8889",
            "COLLECTOR_SELF_HOST": "0.0.0.0",
            "COLLECTOR_QUEUE": "/var/lib/otelcol/queue",
        },
        volumes=[(str(ROOT / "collector-config"), "/etc/collector", "ro")],
        temporary="/var/lib/otelcol",
    )


def address(container: DockerContainer, port: int) -> str:
    return f"127.0.0.1:{container.get_exposed_port(port)}"


def fetch(container: DockerContainer, path: str, into: Path) -> Path:
    """A copy of a container's folder, which may have ended."""
    stream, _ = container.get_wrapped_container().get_archive(path)
    with tarfile.open(fileobj=io.BytesIO(b"".join(stream))) as tar:
        tar.extractall(into, filter="data")
    return into / Path(path).name


def test_the_sinks_lake_is_the_trainers(
    sink: DockerContainer,
    collector: DockerContainer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    until: Callable[..., None],
) -> None:
    """Bit for bit; it is written by a user without rights, who ends in order when asked to."""
    assert sink.exec(["id", "-u"]).output.strip() == b"10001"
    train(
        tmp_path / "near",
        f"http://{address(collector, 4317)}",
        monkeypatch,
        ENTRENAR_OTLP_SAMPLES="blocks",
    )
    query = ["entrenar-otel", "query", "--format", "csv", ALL_IS_STORED]
    until(lambda: sink.exec(query).output.split()[-1:] == [b"1"])
    container = sink.get_wrapped_container()
    container.stop(timeout=SECONDS)
    assert container.wait()["StatusCode"] == 0, container.logs().decode()
    all_is_there(Lake(tmp_path / "near"), Lake(fetch(sink, "/data/lake", tmp_path), tmp_path / "none"), until)


def test_prometheus_answers_for_the_run(
    docker: Docker,
    collector: DockerContainer,
    start: Callable[..., DockerContainer],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    until: Callable[..., None],
) -> None:
    """With the run's labels, and the value that was logged last."""
    from testcontainers.core.wait_strategies import LogMessageWaitStrategy

    train(tmp_path / "near", f"http://{address(collector, 4317)}", monkeypatch)
    prometheus = start(
        "prometheus",
        docker.images["PROMETHEUS_IMAGE"],
        LogMessageWaitStrategy("Server is ready"),
        9090,
        command=["--config.file=/etc/entrenar/prometheus.yml", "--storage.tsdb.path=/prometheus"],
        volumes=[(str(ROOT / "collector-config"), "/etc/entrenar", "ro")],
    )
    api = Api(address(prometheus, 9090))
    until(lambda: api.query('training_loss{split=""}'))
    ((labels, value),) = api.query('training_loss{split=""}').items()
    assert float(value) == 1 / 200
    # Job and instance are the run's, not the Collector's.
    expected = {"job": "digits", "instance": "r/1/0", "run_id": "r", "model_id": "digits", "rank": "0"}
    assert dict(labels) == {"__name__": "training_loss", **expected}
    until(lambda: len(api.query('up{job=~"training|collector|sink"} == 1')) == 3)
    api.close()
