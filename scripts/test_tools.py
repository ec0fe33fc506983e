"""Print what the tests need beside the package, from the extra `dev`: tools, not dependencies of ours."""

import re
import tomllib
from pathlib import Path

project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
extras = project["optional-dependencies"]
ours = {
    re.split(r"[<>=\[]", one)[0] for name in ("detectors", "river", "apprise", "otlp") for one in extras[name]
}
print(" ".join(one for one in extras["dev"] if re.split(r"[<>=\[]", one)[0] not in ours))
