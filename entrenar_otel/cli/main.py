"""The console script: all commands in one application, and what becomes of errors."""

from __future__ import annotations

import gc
import logging
import os
import sys

from entrenar_processors.extras import MissingExtra

from entrenar_otel.cli.app import app
from entrenar_otel.cli.commands import bring, explain, gate, generate, inspect, operate, run, see, serve
from entrenar_otel.cli.output import make_printable, print_error
from entrenar_otel.errors import EntrenarError, LakeError, RunError

# in the order of --help
for commands in (
    inspect.commands,
    see.commands,
    explain.commands,
    run.commands,
    operate.commands,
    bring.commands,
    serve.commands,
    gate.commands,
    generate.commands,
):
    app.add_typer(commands)


#: How many more objects there may be before garbage is looked for: what a command imports is none, and to
#: find that out takes a twentieth of the time of a short one.
_OBJECTS = 100_000
#: Those of `run` that have a value.
_OPTIONS_OF_RUN = ("--run-id", "--model-id")


def hoist_globals(arguments: list[str]) -> list[str]:
    """Move `--lake X` and `--json` before the command, so that they may stand anywhere.

    >>> hoist_globals(["ls", "--lake", "x", "-n", "3"])
    ['--lake', 'x', 'ls', '-n', '3']

    The arguments of a program that `run` starts are the program's.

    >>> hoist_globals(["run", "--lake", "x", "python", "train.py", "--lake", "y"])
    ['--lake', 'x', 'run', 'python', 'train.py', '--lake', 'y']
    """
    front, rest, waiting = [], [], list(arguments)
    while waiting:
        argument = waiting.pop(0)
        if argument == "--":
            rest += [argument, *waiting]
            break
        if rest[:1] == ["run"] and not argument.startswith("-") and rest[-1] not in _OPTIONS_OF_RUN:
            rest += [argument, *waiting]
            break
        if argument == "--lake" and waiting:
            front += [argument, waiting.pop(0)]
        elif argument == "--json" or argument.startswith("--lake="):
            front.append(argument)
        else:
            rest.append(argument)
    return front + rest


def main() -> None:
    """Run the command line. Exit codes: 0 done, 1 not found or not possible, 2 invalid call or query."""
    gc.set_threshold(_OBJECTS, *gc.get_threshold()[1:])
    make_printable()
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    try:
        app(hoist_globals(sys.argv[1:]), prog_name="entrenar-otel")
    except EntrenarError as error:
        print_error(error)
        sys.exit(1 if isinstance(error, RunError | LakeError) else 2)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except MissingExtra as error:
        print_error(error)
        sys.exit(1)
    except OSError as error:
        # without its number, and with the name in front, as other programs say it
        text = f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error)
        print_error(OSError(text))
        sys.exit(1)


if __name__ == "__main__":
    main()
