"""TypeScript's word on dashboards: whether their JSON fits Grafana's own types, as in node/schema.ts."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.collector.process import built

_SCHEMA = Path(__file__).with_name("node") / "schema.ts"
_SETTINGS = {
    "noEmit": True,
    "strict": True,
    "skipLibCheck": True,  # libraries' own files
    "module": "esnext",
    "moduleResolution": "bundler",
    "target": "es2022",
    "types": [],
}


def parts(dashboard: Mapping[str, Any]) -> Iterator[tuple[str, str, Any]]:
    """What a dashboard is made of: what it is, in words; its type in schema.ts; and the part."""
    apart = ("panels", "templating", "annotations")
    yield "the dashboard", "Page", {key: value for key, value in dashboard.items() if key not in apart}
    for one in dashboard["templating"]["list"]:
        yield f"variable {one['name']}", "Variable", one
    for one in dashboard["annotations"]["list"]:
        yield f"annotation {one['name']}", "Annotation", one
    for one in dashboard["panels"]:
        kind = "Row" if one["type"] == "row" else f'PanelOf<"{one["type"]}">'
        yield f"panel {one['title']}", kind, one


def problems(folder: Path, dashboards: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str, str]]:
    """Dashboard, part, and what TypeScript says is wrong with it, of all that is. Skips without Node.

    `folder` is empty, and afterwards has what TypeScript was given.
    """
    modules = Path(built("test-program", "grafana"))
    (folder / "node_modules").symlink_to(modules)
    shutil.copy(_SCHEMA, folder)
    (folder / "tsconfig.json").write_text(json.dumps({"compilerOptions": _SETTINGS, "include": ["*.ts"]}))
    names: dict[tuple[str, int], str] = {}
    for number, (dashboard, made) in enumerate(dashboards.items()):
        lines = ['import type { Annotation, Page, PanelOf, Row, Variable } from "./schema";']
        for line, (name, kind, part) in enumerate(parts(made), start=2):
            names[f"{number}.ts", line] = f"{dashboard}\0{name}"
            lines.append(f"export const part{line}: {kind} = {json.dumps(part)};")
        (folder / f"{number}.ts").write_text("\n".join(lines))
    command: list[str | Path] = [
        "node",
        modules / "typescript/bin/tsc",
        "--project",
        folder,
        "--pretty",
        "false",
    ]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert not done.stderr, done.stderr
    found = re.findall(r"^(\S+\.ts)\((\d+),\d+\): error (.+)$", done.stdout, flags=re.MULTILINE)
    assert bool(found) == bool(done.returncode), done.stdout
    told = []
    for file, line, said in found:
        assert (file, int(line)) in names, done.stdout  # else it is not a dashboard that is wrong
        told.append((*names[file, int(line)].split("\0"), said))
    return told
