"""TensorBoard: values are those that its own reader gives, of files that its own writers made."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.proto import event_pb2, summary_pb2
from tensorboard.plugins.hparams import plugin_data_pb2
from tensorboard.summary import Writer
from tensorboard.summary.writer.event_file_writer import EventFileWriter
from tensorboard.summary.writer.record_writer import RecordWriter
from tensorboard.util import tensor_util

from entrenar_otel.errors import ConfigError
from entrenar_otel.importers import tensorboard
from entrenar_otel.importers.foreign_run import unwatched
from tests.conftest import Answer

_VALUES = [0.5, 1e-7, math.nan, math.inf, -math.inf, 3.4e38, 0.1]


def _write(folder: Path, values: list[float] = _VALUES) -> None:
    writer = Writer(str(folder))
    for step, value in enumerate(values):
        writer.add_scalar("train/loss", value, step=step)
    writer.close()


def _legacy(folder: Path) -> None:
    """As PyTorch, tensorboardX and TensorFlow 1 write them."""
    writer = EventFileWriter(str(folder))
    for step in range(3):
        values = [summary_pb2.Summary.Value(tag="acc", simple_value=step / 3)]
        if step == 0:
            values.append(
                summary_pb2.Summary.Value(tag="image", image=summary_pb2.Summary.Image(height=1, width=1))
            )
            values.append(summary_pb2.Summary.Value(tag="weights", histo=summary_pb2.HistogramProto(num=1)))
        writer.add_event(
            event_pb2.Event(wall_time=1.7e9 + step, step=step, summary=summary_pb2.Summary(value=values))
        )
    writer.close()


def _theirs(folder: Path, tag: str, *, as_tensor: bool) -> list[tuple[int, int, str]]:
    reader = EventAccumulator(str(folder), {"scalars": 0, "tensors": 0}, purge_orphaned_data=False)
    reader.Reload()
    events = reader.Tensors(tag) if as_tensor else reader.Scalars(tag)
    return [
        (
            event.step,
            round(event.wall_time * 1e6),
            repr(float(tensor_util.make_ndarray(event.tensor_proto)) if as_tensor else event.value),
        )
        for event in events
    ]


def test_curves_are_those_of_its_own_reader(
    cli: Callable[..., Answer], curve: Callable[..., list[Any]]
) -> None:
    _write(Path("logs/a"))
    _legacy(Path("logs/b"))
    answer = cli("import", "tensorboard", "logs")
    assert answer.code == 0
    assert "2 runs of tensorboard, 10 values" in answer.out
    assert "1 × images, 1 × histograms" in answer.out
    ours = [(step, at, repr(value)) for step, at, value in curve("train/loss", "tensorboard-a-%")]
    assert ours == _theirs(Path("logs/a"), "train/loss", as_tensor=True)
    assert len(ours) == len(_VALUES)
    ours = [(step, at, repr(value)) for step, at, value in curve("acc", "tensorboard-b-%")]
    assert ours == _theirs(Path("logs/b"), "acc", as_tensor=False)
    assert ours[-1] == (2, 1_700_000_002_000_000, repr(float(np.float32(2 / 3))))


def test_the_folder_may_move_and_the_run_may_go_on(cli: Callable[..., Answer]) -> None:
    _write(Path("logs"), [1.0, 2.0])
    assert "1 new" in cli("import", "tensorboard", "logs").out
    Path("logs").rename("moved")
    assert "there already" in cli("import", "tensorboard", "moved").out
    _write(Path("moved"), [3.0])  # a second file, as after a restart
    answer = cli("import", "tensorboard", "moved")
    assert "1 brought up to date" in answer.out
    assert "1 run of tensorboard, 3 values" in answer.out


def test_hyperparameters_are_the_configuration() -> None:
    """As TensorFlow and PyTorch put them down."""
    data = plugin_data_pb2.HParamsPluginData()
    for name, (kind, value) in {
        "lr": ("number_value", 0.1), "optimizer": ("string_value", "adam"), "bias": ("bool_value", True),
    }.items():  # fmt: skip
        setattr(data.session_start_info.hparams[name], kind, value)
    value = summary_pb2.Summary.Value(tag="_hparams_/session_start_info")
    value.metadata.plugin_data.plugin_name = "hparams"
    value.metadata.plugin_data.content = data.SerializeToString()
    writer = EventFileWriter("logs")
    writer.add_event(event_pb2.Event(wall_time=1.7e9, summary=summary_pb2.Summary(value=[value])))
    writer.close()
    (read,) = tensorboard.find_runs("logs")
    assert read(unwatched).config == {"lr": 0.1, "optimizer": "adam", "bias": True}


def test_a_file_that_is_cut_gives_what_is_whole(
    curve: Callable[..., list[Any]], cli: Callable[..., Answer]
) -> None:
    _write(Path("logs"))
    (file,) = Path("logs").iterdir()
    file.write_bytes(file.read_bytes()[:-10])
    assert cli("import", "tensorboard", "logs").code == 0
    assert len(curve("train/loss")) == len(_VALUES) - 1


def test_records_that_are_no_events_are_told(cli: Callable[..., Answer]) -> None:
    _write(Path("logs/good"))
    Path("logs/bad").mkdir()
    with Path("logs/bad/events.out.tfevents.1.host").open("wb") as file:
        RecordWriter(file).write(b"\xff\xff no event")
    answer = cli("import", "tensorboard", "logs")
    assert answer.code == 1
    assert "1 run of tensorboard, 7 values" in answer.out
    assert "one run could not be read: DecodeError" in answer.err
    assert "Traceback" not in answer.err


def test_how_far_a_long_run_is() -> None:
    """Is told while it is read: shares that rise to about all of it."""
    writer = EventFileWriter("logs")
    for step in range(5_500):
        value = summary_pb2.Summary.Value(tag="loss", simple_value=step / 7)
        writer.add_event(
            event_pb2.Event(wall_time=1.7e9, step=step, summary=summary_pb2.Summary(value=[value]))
        )
    writer.close()
    (read,) = tensorboard.find_runs("logs")
    shares: list[float] = []
    assert len(read(shares.append).points) == 5_500
    assert shares == sorted(shares)
    assert (len(shares), shares[0]) == (6, 0.0)
    assert 0.7 < shares[-1] <= 1.0


def test_a_folder_without_events(cli: Callable[..., Answer]) -> None:
    Path("logs").mkdir()
    with pytest.raises(ConfigError, match="no event files of TensorBoard"):
        list(tensorboard.find_runs("logs"))
    assert cli("import", "tensorboard", "logs").code == 2
