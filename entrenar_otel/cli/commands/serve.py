"""Commands that serve until they are stopped: the page for people, the sink for runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from entrenar_otel.cli.app import SETTINGS, open_lake
from entrenar_otel.errors import ConfigError

commands = typer.Typer()


@commands.command()
def serve(
    host: Annotated[str, typer.Option(help="Where to listen.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port; 0: any free one.", min=0, max=65535)] = 8642,
    insecure: Annotated[bool, typer.Option("--insecure", help="Show it to others without a token.")] = False,
    trusted_proxy: Annotated[
        list[str] | None,
        typer.Option(
            help="A proxy's address or network, whose X-Forwarded-For says who sent a wrong token; may be "
            "given several times. Default: nobody's."
        ),
    ] = None,
    config: Annotated[
        Path,
        typer.Option("--config", "-c", help="The renacer.toml whose limits are drawn; it need not exist."),
    ] = SETTINGS,
) -> None:
    """Show the runs of a lake in a browser: a list, curves side by side, findings on them, live.

    Where others may reach it, it asks for the token in ENTRENAR_PAGE_TOKEN. ENTRENAR_PAGE_CERTFILE and
    ENTRENAR_PAGE_KEYFILE: for TLS.

    [dim]Examples:[/dim] entrenar-otel serve · entrenar-otel serve --host 0.0.0.0 --port 8080
    """
    from entrenar_otel.page.proxies import networks_of
    from entrenar_otel.page.run import run_page
    from entrenar_otel.page.settings import PageSettings
    from entrenar_otel.run.settings import RunSettings
    from entrenar_otel.web.address import Address

    settings = PageSettings.from_environment(
        address=Address(host, port), insecure=insecure, trusted_proxies=networks_of(trusted_proxy or ())
    )
    settings.check()
    run_page(open_lake(), settings, RunSettings.find(config).file)


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
    from entrenar_otel.sink.run import run_sink
    from entrenar_otel.sink.service import SinkSettings
    from entrenar_otel.web.address import Address

    settings = SinkSettings.from_environment(
        grpc=Address.parse(grpc, "--grpc") if grpc else None,
        http=Address.parse(http, "--http") if http else None,
        state=state,
        insecure=insecure,
        max_backlog_bytes=int(max_backlog * 1e9),
    )
    run_sink(open_lake(must_exist=False).storage, settings)
