"""Commands do without pandas, and nobody else has to."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from entrenar_otel import Monitor

_COMMAND = """
import sys
from entrenar_otel.cli.main import main
sys.argv = ["entrenar-otel", *sys.argv[1:]]
try:
    main()
except SystemExit as error:
    assert not error.code
heavy = {"pandas", "pyarrow.compute", "matplotlib", "scipy", "textual"}
print(*heavy.intersection(sys.modules), file=sys.stderr)
"""
#: pyarrow was told that there is none, and is then given one.
_PROGRAM = """
from entrenar_otel.cli.no_pandas import do_without_pandas
do_without_pandas()
import sys
assert "pandas" not in sys.modules
import pandas, pyarrow
frame = pyarrow.table({"a": [1, 2]}).to_pandas()
assert isinstance(frame, pandas.DataFrame) and frame["a"].tolist() == [1, 2]
assert pyarrow.Table.from_pandas(frame).equals(pyarrow.table({"a": [1, 2]}))
assert pyarrow.array(pandas.Series([1.0, None])).null_count == 1
do_without_pandas()
assert sys.modules["pandas"] is pandas
"""


@pytest.mark.parametrize(
    "arguments", [["ls"], ["show"], ["watch", "--once"]], ids=lambda arguments: arguments[0]
)
def test_a_command_loads_no_more_than_it_needs(arguments: list[str], start: Callable[..., Monitor]) -> None:
    """A third of a second for pandas, where it is installed; the others are for other commands."""
    pytest.importorskip("pandas", reason="NOT TESTED HERE: pandas is missing")
    with start() as monitor:
        for step in range(20):
            monitor.log(loss=1.0, step=step)
    command = [sys.executable, "-c", _COMMAND, *arguments, "--lake", "lake"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "loss" in done.stdout
    assert done.stderr.split() == []


def test_a_program_that_wants_pandas_has_it(tmp_path: Path) -> None:
    """Pyarrow asks again when it is asked for a DataFrame."""
    pytest.importorskip("pandas", reason="NOT TESTED HERE: pandas is missing")
    done = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
