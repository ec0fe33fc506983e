"""Names: what log records, their scopes and attributes are called on the way from a run to a sink."""

from __future__ import annotations

#: Resource: unique for each start of a process, as in the names of its segments.
PROCESS_ID = "training.process.id"

#: Scope of the events that a run notes; blocks and wide events have `blocks.SCOPE`.
EVENTS_SCOPE = "entrenar_otel.events"
#: Attribute of an event: `<segment number>:<byte offset of the note>`, which tells it from all others of
#: its process.
EVENT_ID = "entrenar.event.id"
#: An event's place, ints; absent where not known. Also of a wide event, and `SEQ`.
EPOCH, BATCH, STEP, SEQ = "epoch", "batch", "step", "seq"
#: Instead of the first three, where an event has attributes of such names itself: a list, -1 where not known.
EVENT_PLACE = "entrenar.event.place"

#: A wide event: one record of samples, as attributes `metric.<name>` and `tag.<key>`.
WIDE_EVENT = "training.step"
METRIC_PREFIX, TAG_PREFIX = "metric.", "tag."

#: A Python warning or a log record; its attribute says which logger that came from. What the sender says of
#: an endpoint has a logger of its own, and is not sent there.
WARNING, LOGGER, DELIVERY_LOGGER = "training.warning", "logger", "entrenar_otel.otlp"

#: Attributes of a block.
FIRST_SEQ, COUNT, CLOCK_NS, FORMAT_VERSION = "first_seq", "count", "clock_ns", "version"

RUN_STARTED, RUN_ENDED = "training.run.started", "training.run.ended"
#: Attributes of `training.run.started`. Times are ISO 8601 text in UTC, ARGV is a list of text.
STARTED_AT = "training.run.started_at"
WORLD_SIZE = "training.process.world_size"
CONFIG_HASH = "training.config.hash"
MODEL_ID, MODEL_VERSION = "training.model.id", "training.model.version"
GIT_COMMIT = "vcs.ref.head.revision"
PYTHON = "process.runtime.version"
HOST, PID = "host.name", "process.pid"
#: `blocks`, `events` or `off`: whether samples leave as well.
SAMPLES = "training.otlp.samples"
#: Only with ENTRENAR_OTLP_CONFIG=1; else they are absent.
CONFIG, ARGV = "training.config", "process.command_args"
#: Attributes of `training.run.ended`; REASON is absent where there is none. DROPPED is an int.
STATE, REASON = "training.run.state", "training.run.reason"
ENDED_AT = "training.run.ended_at"
DROPPED = "training.run.dropped"
