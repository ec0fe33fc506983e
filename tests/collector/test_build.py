"""scripts/collector: builds once, whoever asks; with a stand-in for Go, whose real work takes minutes."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from .process import ROOT

GO = """#!/bin/sh
case "$*" in
"env GOVERSION") echo "$VERSION" ;;
"env GOPROXY") echo https://proxy.example,direct ;;
install*)
    echo "$GOPROXY" >>"$TOLD"
    printf '#!/bin/sh\\nmkdir build\\n' >"$GOBIN/builder"
    chmod +x "$GOBIN/builder" ;;
build*)
    sleep 0.5
    echo built >>"$TOLD"
    test -f go.sum && test -z "$FAILS" && printf '#!/bin/sh\\n' >../otelcol && chmod +x ../otelcol ;;
esac
"""


class Script:
    """The command, with a cache and a Go of its own."""

    def __init__(self, folder: Path) -> None:
        self.cache, self.told = folder / "cache", folder / "told"
        (folder / "bin").mkdir()
        (folder / "bin/go").write_text(GO)
        (folder / "bin/go").chmod(0o755)
        self._environment = os.environ | {
            "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
            "XDG_CACHE_HOME": str(self.cache),
            "TOLD": str(self.told),
            "VERSION": "go1.26.1",
            "FAILS": "",
            "COLLECTOR": "",
        }

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [str(ROOT / "scripts/collector"), *arguments],
            env=self._environment | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, **environment: str) -> tuple[int, str, str]:
        process = self.start(*arguments, **environment)
        out, err = process.communicate(timeout=120)
        return process.returncode, out.strip(), err


@pytest.fixture
def script(tmp_path: Path) -> Script:
    return Script(tmp_path)


def test_who_asks_meanwhile_gets_the_same_build(script: Script) -> None:
    assert script.run("--background")[0] == 0
    asking = [script.start() for _ in range(3)]
    answers = [process.communicate(timeout=120)[0].strip() for process in asking]
    assert [process.returncode for process in asking] == [0, 0, 0]
    assert len(set(answers)) == 1
    assert os.access(answers[0], os.X_OK)
    assert Path(answers[0]).is_relative_to(script.cache)
    assert script.told.read_text().split() == ["https://proxy.example", "built"]
    assert not list(script.cache.rglob("build.??????"))
    assert script.run() == (0, answers[0], "")


def test_a_build_that_fails_leaves_nothing(script: Script) -> None:
    code, out, _ = script.run(FAILS="yes")
    assert code not in (0, 3)
    assert not out
    assert not list(script.cache.rglob("otelcol"))
    assert script.run()[0] == 0


@pytest.mark.parametrize("version", ["go1.19.8", ""])
def test_without_go_it_says_what_to_install(script: Script, version: str) -> None:
    code, out, err = script.run(VERSION=version)
    assert (code, out) == (3, "")
    assert "NO COLLECTOR: building it needs Go 1.26" in err


def test_one_that_is_there_is_used(script: Script) -> None:
    assert script.run(COLLECTOR="/opt/otelcol-contrib", VERSION="") == (0, "/opt/otelcol-contrib", "")
