"""scripts/docker-engine: whose engine it is, who ends it, and what it says where there is none."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.collector.process import ROOT

from .conftest import Docker


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [str(ROOT / "scripts/docker-engine"), *arguments]
    return subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=False)


def test_an_engine_that_was_named_is_used_or_missed(tmp_path: Path) -> None:
    """Nothing is started beside it."""
    done = run(DOCKER_HOST=f"unix://{tmp_path}/none.sock", XDG_CACHE_HOME=str(tmp_path))
    assert done.returncode == 3
    assert done.stderr == f"NO DOCKER ENGINE: nothing answers at DOCKER_HOST=unix://{tmp_path}/none.sock.\n"
    assert not list(tmp_path.iterdir())


def test_without_docker_it_says_what_to_install(tmp_path: Path) -> None:
    for program in ("bash", "env"):
        (tmp_path / program).symlink_to(f"/usr/bin/{program}")
    done = run(PATH=str(tmp_path), DOCKER_HOST="")
    assert done.returncode == 3
    assert "apt-get install docker.io docker-compose" in done.stderr


def test_an_engine_in_use_stays(docker: Docker) -> None:
    """This process uses it, as every session of tests does."""
    assert run("--stop").returncode == 0
    assert run().stdout.strip() == docker.host
    subprocess.run(["docker", "version"], check=True, capture_output=True)
