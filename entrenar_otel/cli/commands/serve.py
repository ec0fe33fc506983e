"""Commands that serve until they are stopped: the sink."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from entrenar_otel.cli.app import open_lake
from entrenar_otel.errors import ConfigError

commands = typer.Typer()


@commands.command()
def sink(
    grpc: Annotated[str, typer.Option(help="Where to listen for gRPC; empty: nowhere.")] = "127.0.0.1:4317",
    http: Annotated[
        str, typer.Option(help="Where to listen for HTTP, with /healthz and /metrics; empty: nowhere.")
    ] = "127.0.0.1:4318",
    state: Annotated[
        Path | None,
        typer.Option(help="Where to keep what has arrived, on a local disk. Default: below XDG_STATE_HOME."),
    ] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Listen to other machines without a token.")
    ] = False,
    max_backlog: Annotated[
        float, typer.Option(help="GB that may wait while the lake is away; then senders have to.", min=0.1)
    ] = 8.0,
) -> None:
    """Receive OTLP, from runs or from a Collector, into a lake; until Ctrl-C or SIGTERM.

    What is acknowledged is on this disk, and seconds later in the lake that --lake names, each sample once.

    Other machines must send ENTRENAR_SINK_TOKEN. ENTRENAR_SINK_CERTFILE and ENTRENAR_SINK_KEYFILE: for TLS.

    [dim]Example:[/dim] entrenar-otel sink --lake s3://bucket/lake
    """
    try:
        import grpc as _grpc  # noqa: F401
        import opentelemetry.proto.collector.logs.v1.logs_service_pb2  # noqa: F401
    except ImportError:
        raise ConfigError("the sink needs gRPC: pip install 'entrenar-otel[otlp]'") from None
    from entrenar_otel.sink.address import Address
    from entrenar_otel.sink.run import run_sink
    from entrenar_otel.sink.service import SinkSettings

    settings = SinkSettings.from_environment(
        grpc=Address.parse(grpc, "--grpc") if grpc else None,
        http=Address.parse(http, "--http") if http else None,
        state=state,
        insecure=insecure,
        max_backlog_bytes=int(max_backlog * 1e9),
    )
    run_sink(open_lake(must_exist=False).storage, settings)
