"""Two requests on their way: whoever is killed while the later has arrived and the earlier has not."""

from __future__ import annotations

import json
import threading
from typing import Any

from tests.otel.otlp.conftest import GrpcEndpoint, no_endpoint, until, values_of

from .conftest import Place
from .test_otlp import SEND, kept_for_later, leading_to, left, seqs_of

__all__ = ["no_endpoint"]  # a fixture for all tests here


def first_seq(request: Any) -> int:
    """Of the samples in a request; -1 without any."""
    for resource in request.resource_logs:
        for scope in resource.scope_logs:
            for record in scope.log_records:
                if record.event_name == "training.samples":
                    return int(values_of(record.attributes)["first_seq"])
    return -1


def test_kill_9_when_the_second_has_arrived_before_the_first(place: Place) -> None:
    """The watermark stands before both; the next one sends both again, and each sample is there."""
    kept_for_later(place)
    began: list[int] = []
    killed = threading.Event()

    def hold_the_earlier(request: Any) -> None:
        first = first_seq(request)
        began.append(first)
        if len(began) > 1 and first == min(began[1:]):
            killed.wait(100)

    endpoint = GrpcEndpoint()
    endpoint.answer = hold_the_earlier
    child = place.make_child(SEND, **leading_to(endpoint.url, OTEL_EXPORTER_OTLP_LOGS_TIMEOUT="90"))
    try:
        until(lambda: len(began) == 3)
        later = max(began)
        until(lambda: any(first_seq(request) == later for request in endpoint.requests))
        until(lambda: left(place, "*.sent"))
        (sent,) = place.live.glob("*.sent")
        mark = json.loads(sent.read_text())
        child.kill()
        child.end()
    finally:
        killed.set()
        endpoint.close()
    assert len(began) == 3, "a third was sent while two were not acknowledged"
    assert json.loads(sent.read_text()) == mark
    again = GrpcEndpoint()
    try:
        place.run(SEND, **leading_to(again.url))
        (seqs,) = seqs_of(again).values()
        assert seqs[0] == sorted(began)[1], "sent again from where nothing was acknowledged"
        assert later in seqs
        (all_of_them,) = seqs_of(endpoint, again).values()
        assert all_of_them == list(range(40_000))
        assert left(place) == []
    finally:
        again.close()
