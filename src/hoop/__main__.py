# SPDX-License-Identifier: MIT
"""The command line: `python -m hoop run script.py [args]`, `... run -m module [args]`."""

import argparse
import sys

from hoop import _script


def main(arguments: list[str]) -> None:
    """Carry out the command line `arguments`, or leave through SystemExit."""
    own = own_length(arguments)
    options = parser().parse_args(arguments[:own])
    target_arguments = arguments[own:]
    if options.module is not None:
        _script.run_module(options.module, target_arguments)
    else:
        _script.run_script(options.script, target_arguments)


def own_length(arguments: list[str]) -> int:
    """How many of the arguments are hoop's own.

    As with python itself they end at the script or at `-m module`: the rest is the
    target's, whatever it looks like.
    """
    if arguments[:1] != ["run"]:
        return len(arguments)
    first = arguments[1] if len(arguments) > 1 else ""
    return 3 if first == "-m" else 2


class ShowVersion(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version  # costs more than all else a run imports

        print(f"hoop {version('hoop')}")
        parser.exit()


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="python -m hoop", description="asyncio event loop in C")
    top.add_argument("--version", action=ShowVersion, nargs=0, help="show hoop's version and exit")
    commands = top.add_subparsers(metavar="command", required=True)
    run = commands.add_parser(
        "run",
        usage="python -m hoop run [-h] (script.py | -m module) [args ...]",
        help="run an unmodified asyncio program on hoop",
        description="Run a script or a module as python would, with hoop as asyncio's loop.",
        epilog="A policy or a loop factory that the program sets itself is honoured.",
    )
    target = run.add_mutually_exclusive_group(required=True)
    target.add_argument("-m", dest="module", help="module to run as a program")
    target.add_argument("script", nargs="?", metavar="script.py", help="file to run")
    run.add_argument("args", nargs="*", help="arguments of the program")
    return top


if __name__ == "__main__":
    main(sys.argv[1:])
