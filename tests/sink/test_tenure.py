"""One sink writes a lake: a second is refused while the first lives, and takes over when it is dead."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from entrenar_otel.lake.store.storage import Storage, open_storage
from entrenar_otel.recording.process.origin import Origin
from entrenar_otel.sink.tenure import NAME, OtherSink, Tenure
from tests.sink.test_roll_loop import until


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return open_storage(tmp_path / "lake")


def tenure(storage: Storage, state: Path, **more: float) -> Tenure:
    state.mkdir(exist_ok=True)
    return Tenure(storage, state, **more)


def said(storage: Storage, **more: Any) -> dict[str, Any]:
    """What the lake says of its sink, changed."""
    found: dict[str, Any] = json.loads(storage.read_bytes(NAME, 10_000)) | more
    storage.write_bytes(NAME, json.dumps(found).encode())
    return found


def elsewhere(storage: Storage, **more: Any) -> None:
    origin = Origin.here().document() | {"machine": "another", "boot": "another"}
    said(storage, origin=origin, host="other", pid=7, **more)


def test_a_second_sink_is_refused_in_words_until_the_first_ends(storage: Storage, tmp_path: Path) -> None:
    first, second = tenure(storage, tmp_path / "1"), tenure(storage, tmp_path / "2")
    first.take()
    first.keep()
    with pytest.raises(OtherSink, match=rf"another sink writes .*state in {tmp_path}/1\): stop it, or give"):
        second.take()
    second.release()  # is not its own
    first.keep()
    first.release()
    second.take()
    with pytest.raises(OtherSink):
        first.keep()


def test_one_whose_process_is_gone_is_taken_over_at_once(storage: Storage, tmp_path: Path) -> None:
    tenure(storage, tmp_path / "1").take()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        said(storage, origin=Origin.here().document() | {"pid": child.pid})
    tenure(storage, tmp_path / "2", silent_seconds=3600).take()


def test_the_same_state_folder_is_the_same_sink(storage: Storage, tmp_path: Path) -> None:
    tenure(storage, tmp_path / "1").take()
    elsewhere(storage)
    tenure(storage, tmp_path / "1", silent_seconds=3600).take()
    (tmp_path / "1" / "owner").write_text("damaged")
    with pytest.raises(OtherSink):
        tenure(storage, tmp_path / "1").keep()


def test_one_elsewhere_is_watched_and_taken_over_when_it_is_silent(
    storage: Storage, tmp_path: Path, caplog: Any
) -> None:
    tenure(storage, tmp_path / "1").take()
    elsewhere(storage)
    second = tenure(storage, tmp_path / "2", silent_seconds=0.5)
    with pytest.raises(OtherSink):
        second.keep()
    second.take()
    assert "says that another sink writes it (process 7 on other" in caplog.text


def test_one_elsewhere_that_gives_a_sign_of_life_is_left_alone(
    storage: Storage, tmp_path: Path, caplog: Any
) -> None:
    tenure(storage, tmp_path / "1").take()
    elsewhere(storage)
    answers: list[BaseException] = []

    def take() -> None:
        try:
            tenure(storage, tmp_path / "2", silent_seconds=3600).take()
        except OtherSink as error:
            answers.append(error)

    thread = threading.Thread(target=take)
    thread.start()
    until(lambda: "says that another sink writes it" in caplog.text)  # it has read the first beat
    elsewhere(storage, beat=2)
    thread.join(60)
    assert len(answers) == 1


@pytest.mark.parametrize(
    "content", [b"", b"\xff", b"[]", b"{}", b'{"owner": 7}', b'{"owner": "x", "beat": []}']
)
def test_a_file_that_says_nothing_is_written_anew(storage: Storage, tmp_path: Path, content: bytes) -> None:
    storage.write_bytes(NAME, content)
    second = tenure(storage, tmp_path / "2", silent_seconds=0.0)
    second.take()
    second.keep()
    assert said(storage)["state"] == str(tmp_path / "2")


def test_on_object_storage(s3: Any, tmp_path: Path) -> None:
    storage = open_storage(s3.format(f"tenure-{tmp_path.name}"))
    first, second = tenure(storage, tmp_path / "1"), tenure(storage, tmp_path / "2")
    first.take()
    with pytest.raises(OtherSink):
        second.take()
    first.release()
    second.take()
