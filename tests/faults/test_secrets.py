"""Secrets: of what a training is given, none is in its output, its lake or its live folder."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

TRAINING = """
    import logging
    logging.basicConfig(format="%(name)s %(levelname)s %(message)s", stream=sys.stderr)
    sys.argv += {arguments!r}
    with contextlib.suppress(ValueError), Monitor("r", config={config!r}, interval_seconds=0.1) as monitor:
        monitor.log(loss=1.0)
        logging.getLogger("hub").warning("401 for https://me:SECRET@host/x?sig=SECRET, api_key='SECRET9'")
        logging.getLogger("hub").error("refused: SECRET%s".replace("SECRET", ""), "")
        with contextlib.suppress(OSError), monitor.span("fetch"):
            raise OSError("no answer from s3://key:SECRET@bucket/x?token=SECRET")
        monitor.flush({wait})
        raise ValueError("no route to postgresql://me:SECRET@db/x, password=SECRET")
    say("done")
"""


def everything(root: Path) -> str:
    """The text of all files, of Parquet decoded."""
    texts = []
    for path in root.rglob("*"):
        if path.is_file() and path.suffix == ".parquet":
            texts.append(f"{path.name} {pq.read_table(path, partitioning=None).to_pylist()}")
        elif path.is_file():
            texts.append(f"{path.name} {path.read_bytes().decode('latin-1')}")
    return "\n".join(texts)


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {
            "OTEL_EXPORTER_OTLP_ENDPOINT": "http://me:SECRET@127.0.0.1:9",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
            "OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer%20SECRET",
        },
        {
            "OTEL_EXPORTER_OTLP_ENDPOINT": "http://me:SECRET@127.0.0.1:9/p?key=SECRET",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "OTEL_EXPORTER_OTLP_HEADERS": "x-key=SECRET",
        },
        {
            "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "OTEL_EXPORTER_OTLP_HEADERS": "x-key SECRET é",
        },
    ],
    ids=["no collector", "grpc", "http", "headers that are invalid"],
)
def test_no_secret_survives(place: Any, environment: dict[str, str]) -> None:
    """Of the command line, the configuration, errors, log lines of others, and OpenTelemetry's settings."""
    script = TRAINING.format(
        arguments=["--api-key=SECRET", "--hub-token", "SECRET", "db.password=SECRET", "--lr", "0.1"],
        config={"lr": 0.1, "hub": {"token": "SECRET"}, "db": "s3://k:SECRET@bucket/x", "layers": 3},
        wait=3.0,
    )
    done = place.make_child(textwrap.dedent(script), **environment).end(200)
    assert done.returncode == 0, done.stderr
    text = everything(place.root)
    assert "--api-key=[redacted]" in text  # it was looked at
    assert "training.warning" in text
    assert "no answer from s3://bucket/x" in text
    for where in (text, done.stdout):
        at = where.find("SECRET")
        assert at < 0, where[max(0, at - 300) : at + 20]
    # What the training logs itself reaches its handlers as it is, unlike what others log of our settings.
    others = [line for line in done.stderr.splitlines() if not line.startswith("hub ")]
    assert "SECRET" not in "\n".join(others)
    assert len(others) < len(done.stderr.splitlines())
