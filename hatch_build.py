"""Build the native core (native/): the wheel's build hook; `python hatch_build.py` builds it in a checkout.

It takes the C compiler that is there: CC of the environment, the interpreter's own, else cc, gcc or clang.
Without one, where compiling fails, and with ENTRENAR_NATIVE=0, the wheel is a pure one: everything works, in
Python.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:

    class BuildHookInterface:
        """What of hatchling's class is used; it is there in a build alone."""

        app: Any

else:
    try:
        from hatchling.builders.hooks.plugin.interface import BuildHookInterface
    except ImportError:  # run by hand
        BuildHookInterface = object

NATIVE = Path(__file__).resolve().parent / "native"
CORE = NATIVE / "entrenar_native" / "_core.abi3.so"
#: Results are those of Python: no fused multiply-add, nothing rearranged.
FLAGS = ("-std=c11", "-O2", "-fPIC", "-fvisibility=hidden", "-ffp-contract=off", "-fno-fast-math")
WARNINGS = ("-Wall", "-Wextra", "-Werror")


class NotBuilt(Exception):
    """Why there is no native core, in one line."""


def build(to: Path = CORE, flags: Sequence[str] = ()) -> Path:
    """Compile the sources into `to`, at once or not at all; nothing where it is of these sources already."""
    if os.environ.get("ENTRENAR_NATIVE", "").strip().lower() in ("0", "false", "no", "off"):
        raise NotBuilt("ENTRENAR_NATIVE=0")
    if sys.implementation.name != "cpython" or sysconfig.get_config_var("Py_GIL_DISABLED"):
        raise NotBuilt("it is for CPython with its lock")
    sources = sorted((NATIVE / "src").glob("*.[ch]"))
    digest = hashlib.sha256(repr((FLAGS, sorted(flags))).encode())
    for source in sources:
        digest.update(source.read_bytes())
    mark = digest.hexdigest()[:16]
    if to.exists() and f"entrenar sources {mark}".encode() in to.read_bytes():
        with contextlib.suppress(OSError):  # of another user
            os.utime(to)  # a source that is newer, and the same, is no reason to do without (entrenar_native)
        return to
    handle, name = tempfile.mkstemp(dir=to.parent, suffix=".tmp")
    os.close(handle)
    try:
        command = [
            *(*_compiler(), *FLAGS, *flags, f'-DENTRENAR_SOURCES="{mark}"'),
            *(f"-I{sysconfig.get_path('include')}", "-shared", "-o", name),
            *(str(source) for source in sources if source.suffix == ".c"),
            "-lm",
        ]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode:
            errors = [line for line in done.stderr.splitlines() if "error" in line] or [done.stderr.strip()]
            raise NotBuilt(f"{command[0]} failed: {errors[0]}")
        os.chmod(name, 0o755)  # noqa: S103 -- as of any library; mkstemp's is for its owner only
        os.replace(name, to)
    finally:
        Path(name).unlink(missing_ok=True)
    return to


def _compiler() -> list[str]:
    for command in (os.environ.get("CC"), sysconfig.get_config_var("CC"), "cc", "gcc", "clang"):
        words = shlex.split(command or "")
        if words and shutil.which(words[0]):
            return words
    raise NotBuilt("there is no C compiler (Debian: apt-get install gcc libc6-dev)")


class CustomBuildHook(BuildHookInterface):
    """Puts the native core into the wheel, and into the checkout of an editable installation."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        try:
            build()
        except (NotBuilt, OSError) as reason:
            self.app.display_warning(f"without the native core, in pure Python: {reason}")
            return
        if version != "editable":
            platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
            build_data["pure_python"] = False
            build_data["tag"] = f"cp311-abi3-{platform}"
            build_data["force_include"][str(CORE)] = f"entrenar_native/{CORE.name}"


if __name__ == "__main__":
    try:
        print(f"native core: {build(flags=sys.argv[1:])}")
    except NotBuilt as reason:
        print(f"no native core, in pure Python: {reason}")
