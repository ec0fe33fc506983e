"""Rows as JSON or CSV."""

from __future__ import annotations

import csv
import json
from typing import TextIO

import pyarrow as pa

from entrenar_otel.lake.tables.plain import plain_rows
from entrenar_otel.redact import printable_json


def write_json(table: pa.Table, stream: TextIO) -> None:
    """Write one JSON array, with an object per row."""
    stream.write("[")
    for i, row in enumerate(plain_rows(table)):
        stream.write((",\n " if i else "\n ") + printable_json(json.dumps(row, ensure_ascii=False)))
    stream.write("\n]\n")


def write_csv(table: pa.Table, stream: TextIO) -> None:
    """Write CSV with a header; nested values are JSON text, null is empty."""
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(table.schema.names)
    for row in plain_rows(table):
        writer.writerow(
            printable_json(json.dumps(value, ensure_ascii=False)) if isinstance(value, dict | list) else value
            for value in row.values()
        )
