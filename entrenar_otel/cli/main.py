"""The console script: all commands in one application, and what becomes of errors."""

from __future__ import annotations

import gc
import logging
import sys

from entrenar_processors.extras import MissingExtra

from entrenar_otel.cli.app import app
from entrenar_otel.cli.commands import bring, explain, gate, generate, inspect, operate, run, see, serve
from entrenar_otel.cli.output import end_unread, make_printable, print_error
from entrenar_otel.errors import EntrenarError, LakeError, RunError

_LOOK, _ACT, _JUDGE = "Look at runs", "Record, control and keep runs", "Check and set up"
# in the order of --help, under its headings
for commands, heading in (
    (inspect.commands, _LOOK),
    (see.commands, _LOOK),
    (explain.commands, "Compare and explain"),
    (run.commands, _ACT),
    (operate.commands, _ACT),
    (bring.commands, "Bring in and serve"),
    (serve.commands, "Bring in and serve"),
    (gate.commands, _JUDGE),
    (generate.commands, _JUDGE),
):
    for command in commands.registered_commands:
        command.rich_help_panel = heading
    for group in commands.registered_groups:
        group.rich_help_panel = heading
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
        end_unread()
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
