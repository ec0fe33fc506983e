"""`sink`: what it refuses, in words, before it listens; how it runs is in tests/faults/test_sink.py."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest

from entrenar_otel import Monitor

Cli = Callable[..., Any]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--grpc", "4317"], "expected --grpc HOST:PORT, such as 127.0.0.1:4317, got '4317'"),
        (["--http", "0.0.0.0:0"], "ENTRENAR_SINK_TOKEN"),
        (["--grpc", "", "--http", ""], "the sink listens nowhere"),
        (["--grpc", "no-such-host.invalid:0"], "whoever reaches no-such-host.invalid:0 could write"),
    ],
)
def test_addresses_that_are_refused(arguments: list[str], told: str, cli: Cli) -> None:
    answer = cli("sink", "--lake", "new", "--state", "state", *arguments)
    assert (answer.code, told in answer.err) == (2, True), answer.err


def test_a_lake_that_runs_write(cli: Cli) -> None:
    Monitor("r", lake="lake", quiet=True).start().close()
    answer = cli("sink", "--lake", "lake", "--state", "state")
    assert (answer.code, "is written by runs themselves" in answer.err) == (1, True)


def test_without_the_extra(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "grpc", None)
    answer = cli("sink", "--lake", "new")
    assert (answer.code, answer.err) == (2, "error: the sink needs gRPC: pip install 'entrenar-otel[otlp]'\n")
