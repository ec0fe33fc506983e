"""Print pip constraints: of every dependency of the package and its extras, the lowest version allowed."""

import re
import tomllib
from pathlib import Path

project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
extras = project["optional-dependencies"]
optional = [one for name in ("apprise", "detectors", "grafana", "otlp", "river") for one in extras[name]]
ours = {*project["dependencies"], *optional}
for requirement in sorted(ours):
    name, lowest = re.fullmatch(r"([\w.-]+)[>=]=([\w.]+)(?:,<[\w.]+)?", requirement).groups()
    print(f"{name}=={lowest}")
