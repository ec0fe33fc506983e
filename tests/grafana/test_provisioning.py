"""What Grafana of docker-compose.yml reads when it starts: a data source and where the dashboards are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from entrenar_processors.durations import parse_seconds

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "collector-config"
#: What Grafana knows of each, and the types of it; what it does not know it leaves out without a word.
DATASOURCE = {
    "name": str, "uid": str, "type": str, "access": str, "url": str, "isDefault": bool, "jsonData": dict
}  # fmt: skip
PROVIDER = {"name": str, "folder": str, "type": str, "options": dict}


def provisioned(kind: str) -> dict[str, Any]:
    """The only file of a kind."""
    (path,) = (CONFIGS / "grafana" / kind).iterdir()
    made: dict[str, Any] = yaml.safe_load(path.read_text())
    return made


def check(part: dict[str, Any], known: Mapping[str, type]) -> None:
    assert {name: type(value) for name, value in part.items()} == known


def compose() -> dict[str, Any]:
    made: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    return made


def test_the_data_source_is_prometheus_of_the_same_file() -> None:
    """And it asks no finer than Prometheus scrapes."""
    made = provisioned("datasources")
    assert set(made) == {"apiVersion", "datasources"}
    assert made["apiVersion"] == 1
    (source,) = made["datasources"]
    check(source, DATASOURCE)
    assert (source["type"], source["access"], source["isDefault"]) == ("prometheus", "proxy", True)
    scheme, host, port = source["url"].split(":")
    assert (scheme, host.strip("/")) == ("http", "prometheus")
    assert any(one.endswith(f":{port}") for one in compose()["prometheus"]["ports"])
    scraped = yaml.safe_load((CONFIGS / "prometheus.yml").read_text())["global"]["scrape_interval"]
    assert source["jsonData"] == {"timeInterval": scraped}
    assert parse_seconds(scraped) == 5


def test_the_dashboards_are_where_they_are_mounted() -> None:
    made = provisioned("dashboards")
    assert set(made) == {"apiVersion", "providers"}
    assert made["apiVersion"] == 1
    (provider,) = made["providers"]
    check(provider, PROVIDER)
    assert provider["type"] == "file"
    mounts = dict(one.split(":")[:2] for one in compose()["grafana"]["volumes"])
    assert mounts["./dashboards"] == provider["options"]["path"]
    assert mounts["./collector-config/grafana"] == "/etc/grafana/provisioning"
    assert {path.suffix for path in (ROOT / "dashboards").iterdir()} == {
        ".json",
        ".md",
    }  # it reads the former
