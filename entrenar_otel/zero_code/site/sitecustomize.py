"""What Python imports at its start under `entrenar-otel run`; then comes the program's own sitecustomize.

It must be quick, and work in a Python that has no entrenar-otel: nothing of ours is imported before the
program imports OpenTelemetry or a framework.
"""

import importlib.machinery
import importlib.util
import os
import sys

_HERE = os.path.dirname(os.path.abspath(__file__))


def _begin() -> None:
    if importlib.util.find_spec("entrenar_otel") is None:  # another environment's Python
        if os.environ.get("OTEL_PYTHON_METER_PROVIDER") == "entrenar":
            del os.environ["OTEL_PYTHON_METER_PROVIDER"]
        return
    place = os.path.join(os.path.dirname(_HERE), "imports.py")
    spec = importlib.util.spec_from_file_location("entrenar_otel_imports", place)
    if spec is None or spec.loader is None:
        return
    imports = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = imports
    spec.loader.exec_module(imports)

    def meters(_module: object) -> None:
        from entrenar_otel.zero_code.meters import begin

        begin()

    def framework(module: object) -> None:
        from entrenar_otel.zero_code import patches

        patches.apply(module)

    imports.when_imported("opentelemetry.metrics", meters)
    for name in ("transformers.trainer", "lightning.pytorch", "pytorch_lightning", "keras"):
        imports.when_imported(name, framework)


def _run_next() -> None:
    """The sitecustomize that this one hides: of the program, or of a distribution."""
    spec = importlib.machinery.PathFinder.find_spec("sitecustomize", sys.path)
    if spec is not None and spec.loader is not None:
        module = importlib.util.module_from_spec(spec)
        sys.modules["sitecustomize"] = module
        spec.loader.exec_module(module)


if os.environ.get("ENTRENAR_ZERO_CODE") == "1":  # not where somebody looks through our files
    sys.path[:] = [path for path in sys.path if os.path.abspath(path) != _HERE]
    try:
        _begin()
    except Exception as error:
        sys.stderr.write(f"entrenar: nothing is recorded: {type(error).__name__}: {error}\n")
    _run_next()
