"""OTLP over gRPC, by real clients: what is acknowledged is in the log, the rest is refused in words."""

import grpc
import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse

from entrenar_otel.sink.request_log import Signal

from .conftest import a_request, export, kept


@pytest.mark.parametrize("compression", [None, grpc.Compression.Gzip])
def test_a_request_is_kept_and_acknowledged(channel, log, compression):
    data = a_request().SerializeToString()
    answer = export(channel, Signal.LOGS, data, compression=compression)
    assert ExportLogsServiceResponse.FromString(answer) == ExportLogsServiceResponse()
    assert kept(log) == [(Signal.LOGS, data)]


def test_garbage_is_an_invalid_argument_and_nothing_of_it_is_kept(channel, log):
    with pytest.raises(grpc.RpcError) as caught:
        export(channel, Signal.LOGS, b"\xff" * 100)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "expected an ExportLogsServiceRequest" in caught.value.details()
    assert kept(log) == []
