"""Command line. Every command calls one public function; this package only reads options and prints.

Exit codes: 0 done · 1 a valid request failed · 2 invalid request (one sentence states the reason) · 70 an error of this
package (a report is written) · 130 stopped by Ctrl-C (one sentence lists what is kept) · 141 the program that read the
output has ended.
Results go to standard output, progress and notes to standard error; ``--json`` prints one JSON object instead.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from functools import cache
from typing import Any

import typer

# The order of the imports is the order of the commands in --help.
# isort: off
from modalign.cli.options import app
from modalign.cli import fit_commands, predict_commands
from modalign.cli.pages import explain_command, figures_command, sweep_command
from modalign.cli.servers import serve_command, studio_command
from modalign.cli import compare_command, convert_command, export_command, segment_command
from modalign.cli import audit_commands, bench_command, tables_command, info_commands

# isort: on
from modalign.cli.exit_handling import NO_READER, STOPPED, Stopped, explain, mute, usage_in_words
from modalign.cli.terminal import print_lines
from modalign.core.errors import ModalignError

UsageError: Any = typer.BadParameter.__mro__[1]  # raised for an unknown command; typer does not export it

__all__ = [
    "app",
    "audit_commands",
    "bench_command",
    "compare_command",
    "convert_command",
    "explain_command",
    "export_command",
    "figures_command",
    "fit_commands",
    "info_commands",
    "main",
    "predict_commands",
    "run",
    "segment_command",
    "serve_command",
    "studio_command",
    "sweep_command",
    "tables_command",
]


def main() -> None:
    """Entry point: run a command; convert errors into one sentence and an exit code."""
    for stream in filter(None, (sys.stdout, sys.stderr)):  # a service may have no standard error
        stream.reconfigure(errors="backslashreplace")  # the encoding of the terminal may lack characters
    note = cache(lambda text: print_lines(f"note: {text}"))  # each warning once, even if a fit trains several models
    warnings.showwarning = lambda message, *_, **__: note(" ".join(str(message).split()))
    if code := run() or _flush():
        sys.exit(code)


def _flush() -> int:
    """Flush standard output; the exit code if that fails."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        mute()
        return NO_READER
    except OSError as error:
        mute()
        return explain(error, sys.argv[1:])
    return 0


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command, by default the command line of the process; returns its exit code."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    try:
        code = app(given, standalone_mode=False) or 0
        if code == STOPPED:  # before the command began
            print_lines("stopped")
        return code
    except Stopped as stopped:
        print_lines(str(stopped))
        return STOPPED
    except ModalignError as error:
        print_lines(f"error: {error}")
        return error.exit_code
    except UsageError as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # its message is the whole help
            error.show()
        else:
            place = error.ctx.command_path if error.ctx else "modalign"
            print_lines(f"error: {usage_in_words(error)}; see: {place} --help")
        return 2
    except KeyboardInterrupt:
        print_lines("stopped")
        return STOPPED
    except BrokenPipeError:
        mute()
        return NO_READER
    except Exception as error:  # one sentence and a report in place of a traceback
        return explain(error, given)
