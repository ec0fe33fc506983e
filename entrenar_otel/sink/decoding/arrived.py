"""Arrived: what the requests of a roll have brought, by whose it is."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from entrenar_processors import Block
from google.protobuf.message import DecodeError

from entrenar_otel.lake.tables.journal import Document, span_key
from entrenar_otel.otel.otlp import blocks, names
from entrenar_otel.otel.otlp.blocks import BlockError, decode_block
from entrenar_otel.sink.decoding.foreign import FromForeign
from entrenar_otel.sink.decoding.notes import event_of, span_of
from entrenar_otel.sink.decoding.sender import Process, Sender
from entrenar_otel.sink.decoding.unstorable import Unstorable
from entrenar_otel.sink.decoding.values import attributes_of, value_of
from entrenar_otel.sink.decoding.wide import WideError, WideRows
from entrenar_otel.sink.pieces import pieces
from entrenar_otel.sink.request_log import Request, Signal

#: Clients other than runs, at a time.
MAX_FOREIGN = 10_000
#: What keeps reading a hostile message from ending the roll.
ODD = (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError, IndexError)

#: Of a resource: its scopes, with their records, metrics or spans.
_Scopes = Iterable[tuple[Any, Any]]

_NOTHING = Request(0, Signal.LOGS, b"")


class FromProcess:
    """What came from one process of a run."""

    def __init__(self, sender: Sender, received_ns: int) -> None:
        assert sender.process is not None
        self.process: Process = sender.process
        self.sender = sender
        self.first_ns = self.last_ns = received_ns
        #: Rows of blocks, of which a record is there whole or not at all.
        self.blocks: list[Block] = []
        self.wide = WideRows()
        #: Each with its identity, which is empty where it has none.
        self.events: list[tuple[str, Document]] = []
        #: By their identity.
        self.spans: dict[tuple[str, str], Document] = {}
        #: Attributes of `training.run.started` and `training.run.ended`.
        self.started: dict[str, Any] | None = None
        self.ended: dict[str, Any] | None = None

    def heard(self, sender: Sender, received_ns: int) -> None:
        """It has said something again."""
        self.first_ns, self.last_ns = min(self.first_ns, received_ns), max(self.last_ns, received_ns)
        if sender.attempt and not self.sender.attempt:
            self.sender = sender

    def add_span(self, document: Document) -> None:
        """A span, once; of two with its ids the one that ends later."""
        key = span_key(document)
        there = self.spans.get(key)
        if there is None or there["end_ns"] < document["end_ns"]:
            self.spans[key] = document


class Arrived:
    """The requests of one file of the log, taken apart.

    `is_stored` says of a request's digest whether what foreign clients sent in it is stored already.
    """

    def __init__(self, unstorable: Unstorable, is_stored: Callable[[bytes], bool]) -> None:
        self.unstorable, self._is_stored = unstorable, is_stored
        self.processes: dict[Process, FromProcess] = {}
        #: By the id that stands for their run, and the process where they are a run's aggregated metrics.
        self.foreign: dict[tuple[str, Process | None], FromForeign] = {}
        #: Digests of the requests with something of theirs.
        self.digests: set[bytes] = set()
        self.samples = 0
        self._request = _NOTHING
        self._is_new: bool | None = None

    def add(self, request: Request) -> None:
        """Take a request apart; what is wrong in it is left out, and the rest taken."""
        self._request, self._is_new = request, None
        try:
            take = _TAKE[request.signal]
            for resource, scopes in pieces(request.signal, request.data):
                take(self, resource, scopes)
        except (DecodeError, *ODD) as error:
            self.unstorable.add("requests", f"it is not an OTLP request: {error}")
        self._request = _NOTHING  # it may be large

    def _from(self, resource: Any) -> FromProcess | Sender | None:
        """Whose it is; None where that is odd."""
        received_ns = self._request.received_ns
        sender = Sender.of(attributes_of(resource.attributes))
        if sender.problem:
            self.unstorable.add("resources", sender.problem)
            return None
        if sender.process is None:
            return sender
        known = self.processes.get(sender.process)
        if known is None:
            known = self.processes[sender.process] = FromProcess(sender, received_ns)
        known.heard(sender, received_ns)
        return known

    def _foreign(self, sender: Sender) -> FromForeign | None:
        """What came from a foreign client; None of a request that is stored already."""
        if self._is_new is None:
            digest = hashlib.blake2b(self._request.data, digest_size=16).digest()
            self._is_new = digest not in self.digests and not self._is_stored(digest)
            self.digests.add(digest)
        if not self._is_new:
            return None
        key = (sender.foreign_id, sender.process)
        if key not in self.foreign:
            if len(self.foreign) >= MAX_FOREIGN:
                self.unstorable.add("clients", f"more than {MAX_FOREIGN:,} at a time")
                return None
            self.foreign[key] = FromForeign(sender.foreign_id, self._request.received_ns)
        return self.foreign[key]

    # -- logs -------------------------------------------------------------------------------------

    def _logs(self, resource: Any, scopes: _Scopes) -> None:
        whose = self._from(resource)
        if isinstance(whose, Sender):
            self._foreign_logs(whose, scopes)
        if not isinstance(whose, FromProcess):
            return
        for scope, records in scopes:
            is_ours = scope.name == blocks.SCOPE
            for record in records:
                try:
                    if is_ours and record.event_name == blocks.EVENT_NAME:
                        self._block(whose, record)
                    elif is_ours and record.event_name == names.WIDE_EVENT:
                        self.samples += whose.wide.add(record)
                    else:
                        self._event(whose, record)
                except (BlockError, WideError) as error:
                    self.unstorable.add("records of samples", str(error), whose.process)
                except ODD as error:
                    self.unstorable.add("log records", f"{type(error).__name__}: {error}", whose.process)

    def _foreign_logs(self, sender: Sender, scopes: _Scopes) -> None:
        if (foreign := self._foreign(sender)) is None:
            return
        for _, records in scopes:
            for record in records:
                self._take(foreign.add_event, "log records", sender, record)

    def _take(self, add: Callable[..., None], what: str, sender: Sender, *given: Any) -> None:
        try:
            add(*given)
        except ODD as error:
            self.unstorable.add(what, str(error) or type(error).__name__, (sender.foreign_id,))

    def _block(self, whose: FromProcess, record: Any) -> None:
        numbers = {item.key: item.value for item in record.attributes}
        given = {}
        for name in (names.FIRST_SEQ, names.COUNT, names.CLOCK_NS, names.FORMAT_VERSION):
            value = value_of(numbers[name]) if name in numbers else None
            if type(value) is not int:
                raise BlockError(f"a block's attribute {name} is missing, or no integer")
            given[name] = value
        if (version := given.pop(names.FORMAT_VERSION)) != blocks.VERSION:
            raise BlockError(f"expected a block of version {blocks.VERSION}, got {version}")
        samples = decode_block(record.body.bytes_value, **given)
        whose.blocks.extend(samples.blocks)
        self.samples += samples.n_values

    def _event(self, whose: FromProcess, record: Any) -> None:
        attributes = attributes_of(record.attributes)
        document = event_of(record, attributes)
        identity = attributes.get(names.EVENT_ID)
        if not isinstance(identity, str) or len(identity) > 100:
            identity = ""
        whose.events.append((identity, document))
        if document["name"] == names.RUN_STARTED:
            whose.started = attributes
        elif document["name"] == names.RUN_ENDED:
            whose.ended = attributes | {"time_ns": document["time_ns"]}

    # -- the others -------------------------------------------------------------------------------

    def _traces(self, resource: Any, scopes: _Scopes) -> None:
        whose = self._from(resource)
        if isinstance(whose, Sender) and (foreign := self._foreign(whose)) is not None:
            for scope, spans in scopes:
                for span in spans:
                    self._take(foreign.add_span, "spans", whose, span, scope.name)
        if not isinstance(whose, FromProcess):
            return
        for scope, spans in scopes:
            for span in spans:
                try:
                    document = span_of(span, scope.name)
                except ODD as error:
                    self.unstorable.add("spans", f"{type(error).__name__}: {error}", whose.process)
                    continue
                if document["trace_id"] and document["span_id"]:
                    whose.add_span(document)
                else:
                    self.unstorable.add("spans", "it has no trace id or no span id", whose.process)

    def _metrics(self, resource: Any, scopes: _Scopes) -> None:
        whose = self._from(resource)
        if whose is None:
            return
        sender = whose if isinstance(whose, Sender) else Sender.of(attributes_of(resource.attributes))
        if (foreign := self._foreign(sender)) is not None:
            for _, metrics in scopes:
                for metric in metrics:
                    self._take(foreign.add_metric, "metrics", sender, metric)

    def __iter__(self) -> Iterator[FromProcess]:
        return iter(self.processes.values())


_TAKE: dict[Signal, Callable[[Arrived, Any, _Scopes], None]] = {
    Signal.LOGS: Arrived._logs,
    Signal.METRICS: Arrived._metrics,
    Signal.TRACES: Arrived._traces,
}
