"""docker-compose.yml as a project of its own, on ports that are free."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from typing import Any
from uuid import uuid4

from tests.collector.process import ROOT
from tests.ports import free_port

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
