"""Print pip constraints: of every dependency of the package and its extras, the lowest version allowed."""

import re
import tomllib
from pathlib import Path

pyproject = Path(__file__).parents[1] / "pyproject.toml"
project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
extras = project["optional-dependencies"]
wanted = set(project["dependencies"]).union(
    *(extras[name] for name in ("apprise", "detectors", "otlp", "river"))
)
for requirement in sorted(wanted):
    name, lowest = re.fullmatch(r"([\w.-]+)>=([\w.]+)(?:,<[\w.]+)?", requirement).groups()
    print(f"{name}=={lowest}")
