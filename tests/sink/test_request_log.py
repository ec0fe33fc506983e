"""The request log: durable before it is acknowledged, whole after a kill, readable in spite of damage."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from entrenar_otel.errors import LakeError
from entrenar_otel.sink.request_log import Request, RequestLog, Signal, number_of, read_requests


def rotated(log: RequestLog) -> Path:
    """The file that was written until now, which is not empty."""
    path = log.rotate()
    assert path is not None
    return path


@pytest.fixture
def log(tmp_path: Any) -> Any:
    log = RequestLog(tmp_path / "state")
    yield log
    log.close()


def contents(log: Any) -> Any:
    return [request.data for path in log.closed_files() for request in read_requests(path)]


def test_what_was_appended_is_read_in_order(log: Any) -> None:
    log.append(Signal.LOGS, b"one")
    log.append(Signal.METRICS, b"")
    log.append(Signal.TRACES, bytes(range(256)) * 100)
    (path,) = [log.rotate()]
    requests = list(read_requests(path))
    assert [(type(r), r.signal, r.data) for r in requests] == [
        (Request, Signal.LOGS, b"one"),
        (Request, Signal.METRICS, b""),
        (Request, Signal.TRACES, bytes(range(256)) * 100),
    ]
    assert sorted(r.received_ns for r in requests) == [r.received_ns for r in requests]


def test_nothing_to_rotate(log: Any) -> None:
    assert log.rotate() is None
    log.append(Signal.LOGS, b"x")
    assert log.rotate() is not None
    assert log.rotate() is None
    assert log.backlog_bytes() == 8 + 8 + 16 + 1


def test_numbers_go_on_after_files_were_removed_and_the_sink_was_started_again(tmp_path: Any) -> None:
    log = RequestLog(tmp_path, first_number=7)
    log.append(Signal.LOGS, b"x")
    first = rotated(log)
    assert number_of(first) == 7
    first.unlink()
    log.close()
    log = RequestLog(tmp_path)
    log.append(Signal.LOGS, b"y")
    assert number_of(rotated(log)) > 7
    assert contents(log) == [b"y"]
    log.close()


def test_what_an_earlier_sink_left_is_closed(tmp_path: Any) -> None:
    log = RequestLog(tmp_path)
    log.append(Signal.LOGS, b"left")
    log.close()
    log = RequestLog(tmp_path)
    assert contents(log) == [b"left"]
    assert len(os.listdir(tmp_path)) == 1 + 3  # the lock; what was left, the one being written, the next
    log.close()


def test_a_torn_tail_is_cut_off_and_the_rest_stays(tmp_path: Any) -> None:
    log = RequestLog(tmp_path)
    log.append(Signal.LOGS, b"whole")
    log.append(Signal.LOGS, b"torn" * 100)
    path = rotated(log)
    log.close()
    size = path.stat().st_size
    os.truncate(path, size - 1)
    log = RequestLog(tmp_path)
    assert contents(log) == [b"whole"]
    assert path.stat().st_size == size - 400 - 32
    log.close()


@pytest.mark.parametrize("length", [0, 3, 15, 16])
def test_a_file_without_its_head_is_no_failure(tmp_path: Any, length: Any) -> None:
    (tmp_path / "requests-000004.log").write_bytes(b"ENTRREQ1abcdefgh"[:length])
    log = RequestLog(tmp_path)
    assert contents(log) == []
    log.append(Signal.LOGS, b"x")
    assert number_of(rotated(log)) == 5
    log.close()


def test_damage_between_two_records_is_named_and_the_others_are_read(log: Any, caplog: Any) -> None:
    for data in (b"first", b"second" * 10, b"third"):
        log.append(Signal.LOGS, data)
    path = rotated(log)
    with path.open("r+b") as file:
        file.seek(16 + 32 + 5 + 4)
        file.write(b"\xff\xff\xff\x7f")  # in its mark and length
        file.seek(16 + 32 + 5 + 32 + 3)
        file.write(b"?")
    assert contents(log) == [b"first", b"third"]
    assert "is damaged at byte 53" in caplog.text


def test_a_sender_cannot_write_what_looks_like_a_record(log: Any) -> None:
    """Of a request whose content is a whole file of the log, no record is read where it is damaged itself."""
    log.append(Signal.LOGS, b"inner")
    inner = rotated(log).read_bytes()
    log.append(Signal.LOGS, inner)
    path = rotated(log)
    with path.open("r+b") as file:
        file.seek(16 + 8)
        file.write(b"\0\0\0\0")
    assert list(read_requests(path)) == []


def test_two_sinks_do_not_use_one_folder(log: Any) -> None:
    with pytest.raises(LakeError, match=r"another sink uses .*--state"):
        RequestLog(log.folder)


def test_a_closed_log_takes_nothing(log: Any) -> None:
    log.close()
    with pytest.raises(OSError, match="the sink is stopping"):
        log.append(Signal.LOGS, b"x")
    assert log.rotate() is None


def test_a_full_file_is_followed_by_the_next(tmp_path: Any) -> None:
    log = RequestLog(tmp_path, file_bytes=1000)
    for number in range(40):
        log.append(Signal.LOGS, b"%03d" % number * 33)
    log.rotate()
    assert len(log.closed_files()) > 3
    assert contents(log) == [b"%03d" % number * 33 for number in range(40)]
    log.close()


def test_threads_share_syncs(log: Any, monkeypatch: Any) -> None:
    syncs = []
    real, gate = os.fdatasync, threading.Event()

    def slow(fd: Any) -> None:
        syncs.append(fd)
        gate.wait(60)
        real(fd)

    monkeypatch.setattr(os, "fdatasync", slow)
    threads = [threading.Thread(target=log.append, args=(Signal.LOGS, b"%d" % n)) for n in range(20)]
    for thread in threads:
        thread.start()
    while log._file.length < 16 + 20 * 33:
        time.sleep(0.01)
    gate.set()
    for thread in threads:
        thread.join()
    assert len(syncs) <= 3
    log.rotate()
    assert sorted(contents(log)) == sorted(b"%d" % n for n in range(20))


def test_what_could_not_be_synced_is_not_acknowledged_and_the_next_file_is_taken(
    log: Any, monkeypatch: Any
) -> None:
    log.append(Signal.LOGS, b"durable")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", lambda fd: (_ for _ in ()).throw(OSError(5, "I/O error")))
        with pytest.raises(OSError, match="I/O error"):
            log.append(Signal.LOGS, b"lost")
    log.append(Signal.LOGS, b"after")
    log.rotate()
    assert contents(log) == [b"durable", b"after"]
