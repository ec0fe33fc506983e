"""OTLP over gRPC, by real clients: what is acknowledged is in the log, the rest is refused in words."""

from __future__ import annotations

import errno
import os
import threading
from typing import Any

import grpc
import pytest
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse

from entrenar_otel.errors import failures
from entrenar_otel.sink import arrivals
from entrenar_otel.sink.grpc_server import REQUESTS, GrpcServer
from entrenar_otel.sink.receiver import Receiver
from entrenar_otel.sink.request_log import Signal
from tests.sink.conftest import METHODS, a_block, a_request, export, kept
from tests.sink.test_roll_loop import until

DATA = a_request().SerializeToString()


@pytest.mark.parametrize("compression", [None, grpc.Compression.Gzip])
def test_a_request_is_kept_and_acknowledged(channel: Any, log: Any, compression: Any) -> None:
    data = a_request().SerializeToString()
    answer = export(channel, Signal.LOGS, data, compression=compression)
    assert ExportLogsServiceResponse.FromString(answer) == ExportLogsServiceResponse()
    assert kept(log) == [(Signal.LOGS, data)]


def test_garbage_is_an_invalid_argument_and_nothing_of_it_is_kept(channel: Any, log: Any) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        export(channel, Signal.LOGS, b"\xff" * 100)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "expected an ExportLogsServiceRequest" in caught.value.details()
    assert kept(log) == []


@pytest.mark.parametrize("signal", list(Signal))
def test_each_signal(channel: Any, log: Any, signal: Any) -> None:
    empty = bytes.fromhex("0a021200")  # a resource with a scope without records, of any signal
    assert export(channel, signal, empty) == b""
    assert kept(log) == [(signal, empty)]


def test_a_request_of_60_megabytes_is_kept_and_one_of_100_refused_in_words(channel: Any, log: Any) -> None:
    data = a_request("x" * 1000, records=60_000).SerializeToString()
    export(channel, Signal.LOGS, data)
    with pytest.raises(grpc.RpcError) as caught:
        export(channel, Signal.LOGS, bytes(100 << 20))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "larger than max" in caught.value.details()
    assert kept(log) == [(Signal.LOGS, data)]
    export(channel, Signal.LOGS, b"")


def test_a_bomb_is_refused(grpc_server: Any, log: Any) -> None:
    options = [("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(f"127.0.0.1:{grpc_server.port}", options) as channel:
        with pytest.raises(grpc.RpcError) as caught:
            export(channel, Signal.LOGS, bytes(300 << 20), compression=grpc.Compression.Gzip)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        export(channel, Signal.LOGS, DATA)
    assert kept(log) == [(Signal.LOGS, DATA)]


def test_blocks_that_are_none_are_answered_with_their_number_and_why(channel: Any, log: Any) -> None:
    request = a_request()
    for block in (a_block(), a_block(first_seq=-1), a_block(count=0)):
        request.resource_logs.extend(block.resource_logs)
    request.resource_logs.add().scope_logs.add(scope={"name": "entrenar_otel.samples"}).log_records.add(
        event_name="training.samples"
    )
    answer = ExportLogsServiceResponse.FromString(export(channel, Signal.LOGS, request.SerializeToString()))
    assert (answer.partial_success.rejected_log_records, answer.partial_success.error_message) == (
        3,
        "first_seq -1 and count 1 fit no block of 8 bytes",
    )
    assert len(kept(log)) == 1


def test_backpressure_is_unavailable_with_a_time_to_come_again(channel: Any, receiver: Any, log: Any) -> None:
    export(channel, Signal.LOGS, DATA)
    receiver._max_backlog_bytes = 0
    receiver._looked_at = float("-inf")
    with pytest.raises(grpc.RpcError) as caught:
        export(channel, Signal.LOGS, DATA)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    details = dict(caught.value.trailing_metadata())["grpc-status-details-bin"]
    status = Status.FromString(details)
    retry = RetryInfo()
    assert status.details[0].Unpack(retry)
    assert (status.code, retry.retry_delay.seconds) == (14, 5)
    assert "bytes wait to get into the lake" in caught.value.details()


def test_a_failed_disk_is_unavailable_and_nothing_is_acknowledged(
    channel: Any, log: Any, monkeypatch: Any
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(os, "writev", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "no space")))
        with pytest.raises(grpc.RpcError) as caught:
            export(channel, Signal.LOGS, DATA)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert "the sink cannot keep it now: no space" in caught.value.details()
    assert "grpc-status-details-bin" in dict(caught.value.trailing_metadata())
    export(channel, Signal.LOGS, DATA)
    assert kept(log) == [(Signal.LOGS, DATA)]


def test_what_fails_in_the_sink_is_to_be_sent_again(channel: Any, receiver: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(receiver, "receive", lambda *_: 1 // 0)
    with pytest.raises(grpc.RpcError) as caught:
        export(channel, Signal.LOGS, DATA)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    failures.clear()


def test_another_method_is_unimplemented(channel: Any) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary("/opentelemetry.proto.collector.logs.v1.LogsService/Import")(b"", timeout=60)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_clients_that_send_nothing_are_cut_and_the_others_served(
    receiver: Any, log: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr(arrivals, "_SURE_SECONDS", 60.0)  # nobody makes room before
    monkeypatch.setattr(arrivals, "_WAIT_SECONDS", 60.0)
    server = GrpcServer(receiver, "127.0.0.1:0", request_seconds=0.1)
    gate = threading.Event()

    def nothing() -> Any:
        gate.wait(60)
        yield from ()

    with grpc.insecure_channel(f"127.0.0.1:{server.start()}") as channel:
        stub = channel.stream_unary(METHODS[Signal.LOGS])
        silent = [stub.future(nothing(), timeout=60) for _ in range(REQUESTS)]
        export(channel, Signal.LOGS, DATA)
        how = {(call.code(), call.details()) for call in silent}
        assert how == {(grpc.StatusCode.DEADLINE_EXCEEDED, "the request took more than 0.1 s to arrive")}
        gate.set()
    server.stop(0)
    assert kept(log) == [(Signal.LOGS, DATA)]
    assert receiver.refused["slow"] == REQUESTS


def test_clients_that_are_slow_make_room_for_others(receiver: Any, log: Any) -> None:
    """They are told to come again; what has arrived in full waits no longer than that takes."""
    server = GrpcServer(receiver, "127.0.0.1:0")
    gate = threading.Event()

    def half() -> Any:
        gate.wait(60)
        yield from ()

    with grpc.insecure_channel(f"127.0.0.1:{server.start()}") as channel:
        stub = channel.stream_unary(METHODS[Signal.LOGS])
        slow = [stub.future(half(), timeout=60) for _ in range(arrivals.PLACES + 2)]
        export(channel, Signal.LOGS, DATA)
        until(lambda: any(call.done() for call in slow))
        first = next(call for call in slow if call.done())  # they need not come in order
        assert first.code() is grpc.StatusCode.UNAVAILABLE
        assert "grpc-status-details-bin" in dict(first.trailing_metadata())
        gate.set()
    server.stop(0)
    assert kept(log) == [(Signal.LOGS, DATA)]
    assert receiver.refused["slow"] == 0


def test_a_token(receiver: Any, log: Any) -> None:
    server = GrpcServer(receiver, "127.0.0.1:0", token=b"s3cret")
    with grpc.insecure_channel(f"127.0.0.1:{server.start()}") as channel:
        for value in (None, "Bearer wrong", "s3cret", "Bearer"):
            metadata = () if value is None else (("authorization", value),)
            with pytest.raises(grpc.RpcError) as caught:
                export(channel, Signal.LOGS, DATA, metadata=metadata)
            assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
            assert "s3cret" not in caught.value.details()
        export(channel, Signal.LOGS, DATA, metadata=(("authorization", "bearer s3cret"),))
    server.stop(0)
    assert kept(log) == [(Signal.LOGS, DATA)]


def test_the_end_lets_a_request_in_progress_end(receiver: Any, log: Any, held_append: Any) -> None:
    begun, gate = held_append
    server = GrpcServer(receiver, "127.0.0.1:0")
    with grpc.insecure_channel(f"127.0.0.1:{server.start()}") as channel:
        call = channel.unary_unary(METHODS[Signal.LOGS]).future(DATA, timeout=60)
        assert begun.wait(60)
        threading.Timer(0.2, gate.set).start()
        server.stop(60)
        assert call.result() == b""
    assert kept(log) == [(Signal.LOGS, DATA)]


def test_more_processes_than_are_taken_at_a_time_are_to_come_later(log: Any) -> Any:
    """Those that are known go on; of a large request too, it is looked at who sent it."""
    receiver = Receiver(log, max_processes=2)
    server = GrpcServer(receiver, "127.0.0.1:0")

    def by(run_id: Any, process: Any = "p", size: Any = 1) -> Any:
        request = a_request("x" * 1000, records=size)
        for key, value in (("training.run.id", run_id), ("training.process.id", process)):
            request.resource_logs[0].resource.attributes.add(key=key).value.string_value = value
        return request.SerializeToString()

    with grpc.insecure_channel(f"127.0.0.1:{server.start()}") as channel:
        for data in (by("a"), by("a", "q"), by("a"), by("a", "q", 2000), DATA):
            export(channel, Signal.LOGS, data)
        for data in (by("b"), by("b", size=2000)):
            with pytest.raises(grpc.RpcError) as caught:
                export(channel, Signal.LOGS, data)
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
            assert "2 processes are recording, and no more are taken until" in caught.value.details()
        receiver._heard = dict.fromkeys(receiver._heard, -1e9)  # long silent
        export(channel, Signal.LOGS, by("b"))
    server.stop(0)
    assert len(kept(log)) == 6
