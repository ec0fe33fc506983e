"""TensorBoard: event files, read with TensorBoard's own loader."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from entrenar_processors.extras import require_library

from entrenar_otel.errors import ConfigError
from entrenar_otel.importers.foreign_run import ForeignRun, Watcher, unwatched

SOURCE = "tensorboard"
#: Plugins whose tensors are numbers of a curve.
_SCALARS = frozenset(["", "scalars"])
#: So many events are read between two looks at how far that is; of each, what its frame takes.
_EVENTS, _FRAME_BYTES = 1000, 16
_KINDS = {
    "image": "images",
    "images": "images",
    "histo": "histograms",
    "audio": "audio",
    "graph_def": "graphs",
}


def find_runs(folder: str) -> Iterator[Callable[[Watcher], ForeignRun]]:
    """What reads each run below a log folder: a run is a folder with event files, as TensorBoard has it.

    Raises MissingExtra without TensorBoard, ConfigError where there is no event file.
    """
    require_library(SOURCE, f"importing from {SOURCE}")
    root = Path(folder)
    found = sorted({path.parent for path in _event_files(root)})
    if not found:
        raise ConfigError(f"{root} has no event files of TensorBoard (*.tfevents.*): name the log folder")
    for place in found:
        yield partial(_read, root, place)


def _event_files(root: Path) -> Iterator[Path]:
    for place, _, names in os.walk(root, followlinks=True):
        for name in names:
            if "tfevents" in name:
                yield Path(place, name)


def _read(root: Path, place: Path, watch: Watcher = unwatched) -> ForeignRun:
    from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

    files = sorted(path for path in place.iterdir() if "tfevents" in path.name)
    relative = place.relative_to(root).as_posix()
    name = relative if relative != "." else (place.resolve().name or "run")
    # A file's name has the time, the host and the process that began it: the folder may move.
    run = ForeignRun(SOURCE, f"{relative}\0{files[0].name}", name)
    plugins: dict[str, str] = {}  # by tag: said with its first value only
    size, done = sum(file.stat().st_size for file in files), 0
    for file in files:
        for number, event in enumerate(LegacyEventFileLoader(str(file)).Load()):
            if (
                number % _EVENTS == 0
            ):  # the loader does not say how far it is: those between are about as long
                watch(min(1.0, done / max(1, size)))
                done += _EVENTS * (event.ByteSize() + _FRAME_BYTES)
            time_ns = round(event.wall_time * 1e6) * 1000
            for value in event.summary.value:
                _add(run, value, plugins, time_ns, event.step)
            if event.HasField("graph_def"):
                run.left_out["graphs"] += 1
    return run


def _add(run: ForeignRun, value: Any, plugins: dict[str, str], time_ns: int, step: int) -> None:
    kind = value.WhichOneof("value")
    if plugin := value.metadata.plugin_data.plugin_name:
        plugins.setdefault(value.tag, plugin)
    plugin = plugins.get(value.tag, "")
    if plugin == "hparams":
        run.config.update(_hyperparameters(value.metadata.plugin_data.content))
    elif kind == "simple_value":
        run.points.add(value.tag, value.simple_value, time_ns=time_ns, step=step)
    elif kind == "tensor" and plugin in _SCALARS and (number := _number(value.tensor)) is not None:
        run.points.add(value.tag, number, time_ns=time_ns, step=step)
    else:
        run.left_out[_KINDS.get(plugin or kind or "", plugin or kind or "empty entries")] += 1


def _number(tensor: Any) -> float | None:
    from tensorboard.util import tensor_util

    array = tensor_util.make_ndarray(tensor)
    return float(array.item()) if array.size == 1 and array.dtype.kind in "bfiu" else None


def _hyperparameters(content: bytes) -> dict[str, Any]:
    """The settings that a session began with; of other entries of the plugin nothing."""
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    data = HParamsPluginData.FromString(content)
    if data.WhichOneof("data") != "session_start_info":
        return {}
    return {
        name: getattr(value, value.WhichOneof("kind"))
        for name, value in data.session_start_info.hparams.items()
        if value.WhichOneof("kind") in ("number_value", "string_value", "bool_value")
    }
