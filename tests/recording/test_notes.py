"""Recorder.note: as safe as a sample, and the spans still open go along from segment to segment."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from entrenar_otel.recording.decode import decode
from entrenar_otel.recording.notes import EVENT, SPAN_ENDED, SPAN_STARTED, Note, note_text
from entrenar_otel.recording.segment import HEADER_BYTES, Segment, Snapshot

SMALL = HEADER_BYTES + 8192


def notes_in(path: Path) -> list[Note]:
    snapshot = Snapshot.read(path)
    assert snapshot is not None
    decoded = decode(snapshot.words, {}, start=HEADER_BYTES, first_seq=snapshot.first_seq)
    assert decoded.damage == ()
    return list(decoded.notes)


def spans_in(path: Path) -> list[tuple[int, str]]:
    return [(note.kind, note.document["span_id"]) for note in notes_in(path)]


def start(recorder: Any, *spans: str) -> None:
    for span in spans:
        assert recorder.note(SPAN_STARTED, {"span_id": span, "parent_span_id": None})


def end(recorder: Any, span: str) -> None:
    assert recorder.note(SPAN_ENDED, {"span_id": span})


def test_the_first_note_begins_the_run(recorder: Any) -> None:
    """Like the first `log`; notes neither count nor come out of `drain`."""
    assert recorder.note(EVENT, {"name": "x"})
    assert recorder.is_open
    recorder.log(loss=1)
    recorder.note(EVENT, {"name": "y"})
    recorder.log(loss=2)
    assert recorder.values() == [{"loss": 1}, {"loss": 2}]
    (path,) = recorder.folder.glob("*.seg")
    assert notes_in(path) == [Note(EVENT, {"name": "x"}), Note(EVENT, {"name": "y"})]
    assert recorder.notes_dropped == 0


def test_texts_that_are_made_already_are_the_same_notes(recorder: Any) -> None:
    """Several at once, into one segment or the next, and followed like all others."""
    begun, ended = {"span_id": "a", "parent_span_id": "r", "pad": "." * 3000}, {"span_id": "a"}
    happened = {"name": "x", "pad": "." * 3000}

    def put(*documents: tuple[int, dict[str, Any]]) -> bool:
        texts = [(kind, note_text(document)) for kind, document in documents]
        done: bool = recorder.put_texts(texts, "a", has_parent=True)
        return done

    assert put((SPAN_STARTED, begun))
    recorder.roll()
    assert put((EVENT, happened), (SPAN_ENDED, ended))
    recorder.roll()
    first, second, third = sorted(recorder.folder.glob("*.seg"))
    assert notes_in(first) == [Note(SPAN_STARTED, begun)]
    assert notes_in(second) == [Note(SPAN_STARTED, begun), Note(EVENT, happened), Note(SPAN_ENDED, ended)]
    assert notes_in(third) == []
    recorder.abandon()
    assert not put((SPAN_ENDED, ended))


def test_every_segment_begins_with_the_spans_still_open(recorder: Any) -> None:
    """Those that ended are in the segment in which they did."""
    start(recorder, "a", "b", "c")
    end(recorder, "b")
    recorder.log(loss=1)
    recorder.roll()
    end(recorder, "a")
    start(recorder, "d")
    recorder.log(loss=2)
    recorder.roll()
    first, second, third = sorted(recorder.folder.glob("*.seg"))
    assert spans_in(first) == [(1, "a"), (1, "b"), (1, "c"), (2, "b")]
    assert spans_in(second) == [(1, "a"), (1, "c"), (2, "a"), (1, "d")]
    assert spans_in(third) == [(1, "c"), (1, "d")]
    assert recorder.values() == [{"loss": 1}, {"loss": 2}]


def test_a_segment_is_visible_only_with_them(recorder: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed at the rename, the dead process's last segment has its open spans, the old or the new one."""
    recorder.log(loss=1)
    start(recorder, "a")
    seen: list[list[tuple[int, str]]] = []
    rename = Path.rename

    def renamed(path: Path, target: Path) -> Path:
        done = rename(path, target)
        seen.append(spans_in(target))
        return done

    monkeypatch.setattr(Path, "rename", renamed)
    recorder.roll()
    assert seen == [[(1, "a")]]


def test_a_full_segment_rolls(recorder: Any, segment_size: Callable[[int], None]) -> None:
    """No note is lost or doubled, and the ends of spans find their starts."""
    segment_size(SMALL)
    for i in range(200):
        start(recorder, f"{i}")
        assert recorder.note(EVENT, {"name": f"event {i}", "body": "x" * (i % 50)})
        recorder.log(loss=i)
        end(recorder, f"{i}")
    paths = sorted(recorder.folder.glob("*.seg"))
    assert len(paths) > 5
    notes = [note for path in paths for note in notes_in(path)]
    events = [note.document["name"] for note in notes if note.kind == EVENT]
    assert events == [f"event {i}" for i in range(200)]
    assert [n.document["span_id"] for n in notes if n.kind == SPAN_ENDED] == [f"{i}" for i in range(200)]
    assert len(recorder.rows()) == 200


def test_what_no_segment_holds_is_dropped_without_rolling_on(
    recorder: Any, segment_size: Callable[[int], None]
) -> None:
    """One try in a new segment, which may be larger; and it is counted."""
    segment_size(SMALL)
    recorder.log(loss=1)
    assert not recorder.note(EVENT, {"body": "x" * 10_000})
    assert (recorder.notes_dropped, len(list(recorder.folder.glob("*.seg")))) == (1, 2)
    with pytest.raises(ValueError, match="shorten it"):
        recorder.note(EVENT, {"body": "x" * 300_000})
    segment_size(1 << 17)
    assert recorder.note(EVENT, {"body": "x" * 10_000})


def test_no_room_and_the_end(recorder: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dropped and counted; a start that was not written is not carried on."""
    start(recorder, "a")
    recorder.segment.seal()

    def create(*_: Any, **__: Any) -> Segment:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Segment, "create", create)
        assert not recorder.note(SPAN_STARTED, {"span_id": "lost"})
        assert not recorder.note(EVENT, {})
    recorder.retry_at = 0.0
    end(recorder, "a")
    recorder.end("completed")
    assert not recorder.note(EVENT, {})
    assert recorder.notes_dropped == 3
    assert spans_in(sorted(recorder.folder.glob("*.seg"))[-1]) == [(1, "a"), (2, "a")]


def test_a_forked_child_notes_nothing(recorder: Any) -> None:
    """And counts nothing."""
    start(recorder, "a")
    path = recorder.segment.path
    before = path.read_bytes()
    recorder.abandon()
    assert not recorder.note(SPAN_ENDED, {"span_id": "a"})
    assert (path.read_bytes(), recorder.notes_dropped) == (before, 0)


def test_a_segment_of_notes_only_grows_old(recorder: Any) -> None:
    """It must roll into the lake like any other; what was carried over does not count."""
    start(recorder, "a")
    assert recorder.age_seconds > 0.0
    recorder.roll()
    assert recorder.age_seconds == 0.0


def test_threads_note_while_others_log_and_roll(recorder: Any, segment_size: Callable[[int], None]) -> None:
    """Every note is there once; no span is both carried on and ended."""
    segment_size(1 << 16)
    recorder.log(loss=0)
    failures: list[BaseException] = []

    def work(worker: int) -> None:
        try:
            for i in range(150):
                start(recorder, f"{worker}.{i}")
                recorder.log(loss=i)
                if i % 25 == 0:
                    assert recorder.roll()
                end(recorder, f"{worker}.{i}")
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    paths = sorted(recorder.folder.glob("*.seg"))
    ended: list[str] = []
    for path in paths:
        open_now: set[str] = set()
        for kind, span in spans_in(path):
            assert span not in ended
            if kind == SPAN_STARTED:
                open_now.add(span)
            else:
                open_now.remove(span)
                ended.append(span)
    assert sorted(ended) == sorted(f"{w}.{i}" for w in range(4) for i in range(150))
    assert open_now == set()
    assert len(recorder.rows()) == 601
