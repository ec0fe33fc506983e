"""The whole sink: who may listen where, what it says, how it ends."""

from __future__ import annotations

from typing import Any

import grpc
import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from entrenar_otel.errors import ConfigError, LakeError
from entrenar_otel.lake.store.storage import open_storage
from entrenar_otel.sink.decoding.unstorable import KINDS
from entrenar_otel.sink.known.database import Crash
from entrenar_otel.sink.refusal import Why
from entrenar_otel.sink.request_log import Signal
from entrenar_otel.sink.service import Sink, SinkSettings, default_state
from entrenar_otel.web.address import Address
from tests.sink.conftest import METHODS, a_block, a_request, garbage
from tests.sink.test_roll_loop import Keeper, until

ANY = Address("127.0.0.1", 0)
LOGS = {"Content-Type": "application/x-protobuf"}


@pytest.fixture
def make(tmp_path: Any) -> Any:
    made = []

    def make(keeper: Any = None, *, lake: str = "lake", **settings: Any) -> Any:
        settings = {"grpc": ANY, "http": ANY, "state": tmp_path / "state", "roll_seconds": 0.05} | settings
        sink = Sink(
            open_storage(tmp_path / lake),
            SinkSettings(**settings),
            open_roller=lambda *_: keeper or Keeper(),
        )
        made.append(sink)
        return sink

    yield make
    for sink in made:
        sink.stop()


def test_it_listens_stores_and_says_so(make: Any, tmp_path: Any) -> None:
    keeper = Keeper()
    keeper.unstorable.counts["blocks"] = 3
    keeper.crashes = [Crash('r "1"', 2, "digits", 1, 1e9 + 0.5)]
    sink = make(keeper)
    line = sink.start()
    assert line.startswith("listening for OTLP, gRPC on 127.0.0.1:")
    assert f"HTTP on 127.0.0.1:{sink.http.port}; the lake is {tmp_path}/lake" in line
    data = a_request().SerializeToString()
    port = line.split("gRPC on 127.0.0.1:")[1].split(" ")[0]
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        channel.unary_unary(METHODS[Signal.LOGS])(data, timeout=60)
    url = f"http://127.0.0.1:{sink.http.port}"
    block = a_block(version=2).SerializeToString()
    assert httpx.post(f"{url}/v1/logs", content=block, headers=LOGS).status_code == 200
    assert httpx.post(f"{url}/v1/metrics", content=garbage(), headers=LOGS).status_code == 400
    until(lambda: len(keeper.data) == 2)
    assert sorted(keeper.data) == sorted([data, block])
    until(lambda: not sink.log.backlog_bytes())
    found = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(httpx.get(f"{url}/metrics").text)
        for sample in family.samples
    }
    lag = found.pop(("entrenar_sink_lag_seconds",))
    backlog = found.pop(("entrenar_sink_backlog_bytes",))  # as of half a second ago
    assert (lag >= 0, backlog >= 0) == (True, True)
    counts: dict[tuple[str, ...], float] = {
        **{("entrenar_sink_refused_total", why.word): why is Why.INVALID for why in Why},
        **{("entrenar_sink_unstorable_total", kind): 0 for kind in KINDS},
    }
    assert found == counts | {
        ("entrenar_sink_requests_total", "logs"): 2,
        ("entrenar_sink_requests_total", "metrics"): 0,
        ("entrenar_sink_requests_total", "traces"): 0,
        ("entrenar_sink_unstorable_total", "blocks"): 3,
        ("entrenar_sink_run_crashed_timestamp_seconds", 'r "1"', "digits", "2"): 1e9 + 0.5,
        ("entrenar_sink_received_bytes_total",): len(data) + len(block),
        ("entrenar_sink_refused_blocks_total",): 1,
        ("entrenar_sink_refused_points_total",): 0,
        ("entrenar_sink_samples_total",): 0,
        ("entrenar_sink_repeated_total",): 0,
        ("entrenar_sink_foreign_rows_total",): 0,
        ("entrenar_sink_left_out_total",): 0,
        ("entrenar_sink_lake_available",): 1,
    }


def test_others_than_this_machine_need_a_token(make: Any) -> None:
    for where in ("0.0.0.0", "::", "192.0.2.1", "no-such-host.invalid"):
        for place in ("grpc", "http"):
            with pytest.raises(ConfigError, match=r"whoever reaches .* ENTRENAR_SINK_TOKEN.*--insecure"):
                make(**{place: Address(where, 0)})
    make(http=Address("0.0.0.0", 0), insecure=True).stop()
    make(http=Address("0.0.0.0", 0), token="s3cret").stop()


def test_it_must_listen_somewhere(make: Any) -> None:
    with pytest.raises(ConfigError, match="listens nowhere"):
        make(grpc=None, http=None)


def test_a_lake_of_runs_is_refused_and_a_state_folder_in_use(make: Any, tmp_path: Any) -> None:
    make()
    with pytest.raises(LakeError, match="another sink uses"):
        make()
    with pytest.raises(LakeError, match=r"another sink writes .*/lake \(process"):
        make(state=tmp_path / "another")
    open_storage(tmp_path / "other").write_bytes("runs/day=2026-11-29/run=r/x.parquet", b"")
    with pytest.raises(LakeError, match="is written by runs themselves"):
        Sink(
            open_storage(tmp_path / "other"),
            SinkSettings(grpc=ANY, http=ANY),
            open_roller=lambda *_: Keeper(),
        )


def test_a_port_that_is_taken_is_named(make: Any, tmp_path: Any) -> None:
    sink = make()
    sink.start()
    taken = Address("127.0.0.1", sink.http.port)
    with pytest.raises(ConfigError, match="for HTTP"):
        make(http=taken, state=tmp_path / "second", lake="second-lake")
    other = make(grpc=taken, state=tmp_path / "third", lake="third-lake")
    with pytest.raises(ConfigError, match=r"cannot listen on 127.0.0.1:\d+ for gRPC: .*--grpc HOST:PORT"):
        other.start()


def test_the_settings_of_the_environment(tmp_path: Any) -> None:
    environ = {
        "ENTRENAR_SINK_TOKEN": " s3cret\n",
        "ENTRENAR_SINK_CERTFILE": "cert.pem",
        "ENTRENAR_SINK_KEYFILE": "key.pem",
    }
    found = SinkSettings.from_environment(environ, grpc=ANY, http=None)
    assert (found.token, found.certfile, found.keyfile) == ("s3cret", "cert.pem", "key.pem")
    with pytest.raises(ConfigError, match=r"cannot load the certificate cert.pem.*ENTRENAR_SINK_CERTFILE"):
        Sink(open_storage(tmp_path), found, open_roller=lambda *_: Keeper())
    with pytest.raises(ConfigError, match="KEYFILE is set without"):
        SinkSettings.from_environment({"ENTRENAR_SINK_KEYFILE": "k"}, grpc=ANY, http=None).check()
    assert default_state("a", {"XDG_STATE_HOME": "/x"}) != default_state("b", {"XDG_STATE_HOME": "/x"})


@pytest.mark.parametrize("text", ["", "4317", "127.0.0.1", "a:b", "a:65536", "::1:4317", "a:-1", "a:\xb2"])
def test_addresses_that_are_none(text: Any) -> None:
    with pytest.raises(ConfigError, match=r"expected --grpc HOST:PORT, such as 127.0.0.1:4317"):
        Address.parse(text, "--grpc")


def test_addresses() -> None:
    assert str(Address.parse("[::1]:4317", "--grpc")) == "[::1]:4317"
    assert Address.parse("localhost:0", "--grpc").is_loopback
    assert not Address.parse("0.0.0.0:0", "--grpc").is_loopback


def test_a_state_folder_that_cannot_be_made_is_named(
    make: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what to do: in a container there may be no home that can be written, or none at all."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"kept in .*/file/state \(Not a directory\): name .* with --state"):
        make(state=tmp_path / "file/state")

    def no_home() -> Any:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr("pathlib.Path.home", no_home)
    with pytest.raises(ConfigError, match=r"no home folder .* --state"):
        default_state("lake", {})
