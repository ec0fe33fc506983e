"""OTLP where others are about: another run in the same live folder, and somebody who removes that."""

from __future__ import annotations

import pytest

from tests.otel.otlp.conftest import GrpcEndpoint, no_endpoint, until
from tests.ports import free_port

from .conftest import Child, Place
from .test_otlp import SEND, hear_end, is_whole, leading_to, left, loop, seqs_of

__all__ = ["no_endpoint"]  # a fixture for all tests here

#: A port on which nobody listens.
FREE = 9
#: Logs so many steps, waits to be told, logs as many again.
TWICE = """
small_segments(64 << 10)
monitor = Monitor("r", quiet=True, interval_seconds=0.05).start()
losses = open_run(monitor).losses
for step in range(STEPS):
    monitor.log(step=step, x=step / 3)
say("half")
sys.stdin.readline()
for step in range(STEPS, 2 * STEPS):
    monitor.log(step=step, x=step / 3)
say("logged")
began = time.monotonic()
monitor.close()
counted = {f"{loss.what} {loss.who}": count for loss, count in losses.snapshot() if count}
say(json.dumps([counted, time.monotonic() - began]))
"""


def go_on(child: Child) -> None:
    assert child.process.stdin is not None
    child.process.stdin.write("\n")
    child.process.stdin.flush()


@pytest.fixture
def port() -> int:
    """A port on which nobody listens yet."""
    return free_port()


@pytest.mark.parametrize("is_first_away", [False, True])
def test_two_runs_on_one_live_folder(place: Place, port: int, is_first_away: bool) -> None:
    """Both record and send at once; each sends its own, none is doubled where nobody is killed."""
    endpoint = None if is_first_away else GrpcEndpoint(port)
    url = f"http://127.0.0.1:{port}"
    children = [place.make_child(loop(20_000, 0.02), **leading_to(url)) for _ in range(2)]
    for child in children:
        child.expect("started")
    if endpoint is None:
        until(lambda: len({name[:-14] for name in left(place, "*.unsent")}) == 2)
        endpoint = GrpcEndpoint(port)
    try:
        ends = [hear_end(child) for child in children]
        assert [counted for counted, _, _ in ends] == [{}, {}]
        if any("recover --send" in done.stderr for _, _, done in ends):  # a slow machine: the end waits 5 s
            place.run(SEND, **leading_to(url))
        by_process = seqs_of(endpoint)
        assert [len(seqs) for seqs in by_process.values()] == [20_000, 20_000]
        assert all(map(is_whole, by_process.values()))
        counts = [
            attributes["count"]
            for _, _, record, attributes in endpoint.records()
            if record.event_name == "training.samples"
        ]
        assert sum(counts) == 40_000 == place.count()
        assert left(place) == []
    finally:
        endpoint.close()


def test_a_new_run_sends_what_a_dead_one_left_beside_one_that_lives(place: Place, port: int) -> None:
    """Three in one live folder: what the dead one left, and not what the living one still has."""
    url = f"http://127.0.0.1:{port}"
    living = place.make_child(TWICE.replace("STEPS", "10_000"), **leading_to(f"http://127.0.0.1:{FREE}"))
    living.expect("half")
    until(lambda: left(place, "*.unsent"))
    (alive,) = {name.rpartition("-")[0] for name in left(place, "*.unsent")}
    dead = place.make_child(loop(20_000, 0.0), **leading_to(url))
    hear_end(dead)
    assert len({name.rpartition("-")[0] for name in left(place, "*.unsent")}) == 2
    endpoint = GrpcEndpoint(port)
    try:
        script = f"import entrenar_otel.otel.otlp.exporter as x\nx._BACKLOG_SECONDS = 0.1\n{loop(5_000, 0.2)}"
        next_one = place.make_child(script, **leading_to(url))
        until(lambda: all(alive in name for name in left(place, "*.unsent")))
        counted, _, done = hear_end(next_one)
        assert not counted
        if "recover --send" in done.stderr:  # a slow machine: the end waits 5 s
            until(lambda: not [name for name in left(place, "*.unsent") if alive not in name])
        sent = seqs_of(endpoint)
        assert alive not in sent
        assert sorted(map(len, sent.values())) == [5_000, 20_000]
        assert left(place, f"{alive}*.unsent")
        go_on(living)
        hear_end(living)
        place.run(SEND, **leading_to(url))
        assert len(seqs_of(endpoint)[alive]) == 20_000
        assert all(map(is_whole, seqs_of(endpoint).values()))
        assert left(place) == []
    finally:
        endpoint.close()


def test_the_live_folder_is_removed_while_the_endpoint_is_away(place: Place, port: int) -> None:
    """What was not sent is counted, and said once; all else arrives, and the lake has everything."""
    url = f"http://127.0.0.1:{port}"
    child = place.make_child(TWICE.replace("STEPS", "10_000"), **leading_to(url))
    child.expect("half")
    until(lambda: len(left(place, "*.unsent")) > 2)
    place.remove_live()
    until(lambda: left(place, "*.lock"))
    endpoint = GrpcEndpoint(port)
    try:
        go_on(child)
        counted, _, done = hear_end(child)
        print(done.stderr)
        if "recover --send" in done.stderr:  # a slow machine: the end waits 5 s
            place.run(SEND, **leading_to(url))
        assert list(counted) == ["samples otlp logs (removed)"]
        (seqs,) = seqs_of(endpoint).values()
        assert len(seqs) + counted["samples otlp logs (removed)"] == 20_000 == place.count()
        assert seqs[-1] == 19_999
        assert done.stderr.count("removed before they were sent") == 1
        assert "samples (otlp logs (removed))" in done.stderr
        assert left(place) == []
    finally:
        endpoint.close()


def test_the_lock_of_who_sends_is_made_again(place: Place, port: int) -> None:
    """Else somebody else would send the same beside him."""
    url = f"http://127.0.0.1:{port}"
    child = place.make_child(TWICE.replace("STEPS", "1_000"), **leading_to(url))
    child.expect("half")
    endpoint = GrpcEndpoint(port)
    try:
        until(lambda: left(place, "*.sending"))
        until(endpoint.samples)
        place.remove_live()
        until(lambda: left(place, "*.sending"))
        go_on(child)
        counted, _, _ = hear_end(child)
        (seqs,) = seqs_of(endpoint).values()
        assert len(seqs) + sum(counted.values()) == 2_000
        assert left(place) == []
    finally:
        endpoint.close()


def test_what_is_said_of_the_endpoint_is_not_sent_there(place: Place, port: int) -> None:
    """It is for people at this machine; the lake has it, as every warning."""
    url = f"http://127.0.0.1:{port}"
    child = place.make_child(
        TWICE.replace("STEPS", "100").replace('say("half")', 'warnings.warn("mine")\nsay("half")'),
        **leading_to(url),
    )
    child.expect("half")
    sql = "SELECT body FROM events WHERE name = 'training.warning' ORDER BY timestamp"

    def bodies() -> list[str]:
        return [str(body) for body in place.lake.query(sql)["body"].to_pylist()]

    until(lambda: any("takes no log records" in body for body in bodies()))
    endpoint = GrpcEndpoint(port)
    try:
        go_on(child)
        until(endpoint.samples)
        hear_end(child)
        sent = [r.body.string_value for *_, r, _ in endpoint.records() if r.event_name == "training.warning"]
        assert sent == [body for body in bodies() if "takes no log records" not in body]
        assert "mine" in sent
    finally:
        endpoint.close()
