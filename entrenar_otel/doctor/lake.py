"""Lake: where runs go, which setting says so, and whether it can be written; nothing is written into it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from entrenar_processors.counts import counted

from entrenar_otel.doctor.check import Check, note, problem
from entrenar_otel.doctor.file_system import NETWORK, Abilities, existing, is_writable, look, probe
from entrenar_otel.doctor.surroundings import Surroundings
from entrenar_otel.errors import LakeError
from entrenar_otel.redact import without_credentials

#: Less room than this will not last for long.
_LITTLE_BYTES = 1_000_000_000
_NAME = "lake"
_ANOTHER = "name a folder of yours with --lake or ENTRENAR_LAKE"
#: What Arrow's S3, GCS and Azure take their credentials from, where the URL has none.
_CREDENTIALS = {
    "s3": ("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE"),
    "gs": ("GOOGLE_APPLICATION_CREDENTIALS",),
    "gcs": ("GOOGLE_APPLICATION_CREDENTIALS",),
    "abfs": ("AZURE_STORAGE_KEY", "AZURE_CLIENT_ID"),
}


def checks(around: Surroundings) -> Iterator[Check]:
    """Where it is and what it is like. Raises OSError where a file system does not do what it should."""
    location, source = around.lake
    scheme = urlsplit(location).scheme
    if len(scheme) > 1 and scheme != "file":
        yield _object_store(location, source, around.environ)
        return
    yield from _folder(Path(unquote(urlsplit(location).path) if scheme == "file" else location), source)


def _folder(given: Path, source: str) -> Iterator[Check]:
    folder = Path(os.path.realpath(given))
    shown = f"{folder} ({source})"
    facts: dict[str, Any] = {"location": str(folder), "source": source}
    there = existing(folder)
    is_default = source == "the default"
    if os.path.lexists(folder) and not folder.is_dir():
        yield _unusable(f"{shown} is a file", is_default, **facts)
        return
    if not is_writable(there):
        what = "is not writable" if there == folder else f"cannot be made: {there} is not a writable folder"
        yield _unusable(f"{shown} {what}", is_default, **facts)
        return
    able = look(there)
    facts |= {"exists": there == folder, "file_system": able.kind, "free_bytes": able.free_bytes}
    if there != folder:
        yield Check(_NAME, f"{shown}: the first run makes it; {able.room}", facts=facts)
    else:
        days = sum(one.is_dir() for one in folder.glob("runs/day=*"))
        runs = f"runs of {counted(days, 'day')}" if days else "no runs yet"
        yield Check(_NAME, f"{shown}: {runs}; {able.room}", facts=facts)
    yield from _room(able)
    yield _abilities(able, there, is_lake=there == folder)


def _unusable(text: str, is_default: bool, **facts: object) -> Check:
    if is_default:  # a run that was given no lake records all the same
        return note(_NAME, text, f"runs go to a second lake beside the live folder; {_ANOTHER}", **facts)
    return problem(_NAME, text, _ANOTHER, **facts)


def _room(able: Abilities) -> Iterator[Check]:
    if able.free_files == 0:
        yield problem("room", "no file can be made: the file system has no inode left", "remove files there")
    elif able.free_bytes < _LITTLE_BYTES:
        yield note(
            "room", f"little is free ({able.room})", "entrenar-otel prune removes full-rate rows of old runs"
        )


def _abilities(able: Abilities, there: Path, *, is_lake: bool) -> Check:
    """What its file system can do: beside the lake rather than in it, where both are on the same one."""
    text = f"{able.able}; renaming is not tried, since nothing is written into a lake"
    beside = there.parent if is_lake else there
    is_same = os.stat(beside).st_dev == os.stat(there).st_dev
    if is_same and is_writable(beside) and able.kind not in NETWORK:
        try:
            able = probe(beside)
            text = able.able
        except OSError as error:
            if not is_lake:  # it is to be made there
                return problem(_NAME, f"it cannot be made in {there}: {error.strerror}", _ANOTHER)
    facts = {"tried": list(able.tried), "failed": able.failed}
    if able.failed:
        told = ", ".join(f"no {name} ({why})" for name, why in able.failed.items())
        return note(
            "its abilities",
            told,
            "files still appear whole; the power must not fail while one is written",
            **facts,
        )
    return Check("its abilities", text, facts=facts)


def _object_store(location: str, source: str, environ: Mapping[str, str]) -> Check:
    """A lake in object storage: asked for its days, which writes nothing."""
    from entrenar_otel.lake.store.storage import days, open_storage

    url = without_credentials(location)
    scheme = urlsplit(location).scheme
    variables = [name for name in _CREDENTIALS.get(scheme, ()) if environ.get(name)]
    given = "in the URL" if "@" in location else ", ".join(variables) or "of the machine"
    facts = {"location": url, "source": source, "credentials": given}
    try:
        known = days(open_storage(location), "runs")
    except (LakeError, OSError) as error:
        return problem(
            _NAME,
            f"{url} ({source}) does not answer: {error}",
            f"check its URL, region, endpoint_override= and credentials ({given})",
            **facts,
        )
    runs = f"runs of {counted(len(known), 'day')}" if known else "no runs yet"
    return Check(_NAME, f"{url} ({source}): {runs}; credentials {given}", facts=facts)
