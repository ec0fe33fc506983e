"""Environment: what a program finds in its own, so that it is recorded without a line of ours."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from entrenar_otel.identity.launcher import derived_run_id, run_id_from
from entrenar_otel.identity.process import new_run_id
from entrenar_otel.run import supervisor
from entrenar_otel.zero_code.meters import SWITCH

#: The folder whose `sitecustomize.py` every Python of the program imports.
SITE = Path(__file__).parents[1] / "zero_code" / "site"


def prepared(
    environ: Mapping[str, str],
    folder: Path,
    *,
    run_id: str | None = None,
    model_id: str | None = None,
    lake: str | None = None,
) -> dict[str, str]:
    """The environment of the program; `folder` is where its processes say what they record.

    A run id is made where neither the call nor a launcher has one, so that all ranks share it.

    >>> made = prepared({"PYTHONPATH": "src"}, Path("/tmp/x"), run_id="digits-7", lake="lake")
    >>> made["ENTRENAR_RUN_ID"], made["PYTHONPATH"].endswith("/site:src"), made["ENTRENAR_LAKE"][0]
    ('digits-7', True, '/')
    """
    chosen = run_id or run_id_from(environ) or derived_run_id(environ) or new_run_id()
    earlier = [path for path in environ.get("PYTHONPATH", "").split(os.pathsep) if path and path != str(SITE)]
    made = {
        **environ,
        "ENTRENAR_RUN_ID": chosen,
        "PYTHONPATH": os.pathsep.join([str(SITE), *earlier]),
        SWITCH: "1",
        supervisor.VARIABLE: str(folder),
    }
    if model_id:
        made["ENTRENAR_MODEL_ID"] = model_id
    if lake:
        made["ENTRENAR_LAKE"] = lake if "://" in lake else os.path.abspath(lake)
    return made
