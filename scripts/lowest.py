"""Print pip constraints: the lowest version allowed of every dependency, or of those of the extras named."""

import re
import sys
import tomllib
from pathlib import Path

project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
extras = project["optional-dependencies"]
named = sys.argv[1:]
optional = ("apprise", "detectors", "gpu", "grafana", "otlp", "river")
ours = {one for name in named or optional for one in extras[name]} | {
    *([] if named else project["dependencies"])
}
for requirement in sorted(ours):
    name, lowest = re.fullmatch(r"([\w.-]+)[>=]=([\w.]+)(?:,<[\w.]+)?(?:;.*)?", requirement).groups()
    print(f"{name}=={lowest}")
