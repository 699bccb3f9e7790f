"""The command line. Every command is one call of a public function; this package only reads options and prints.

Exit codes: 0 done · 1 failed although the request was sound · 2 the request was not (one sentence says why).
Results go to standard output, progress and notes to standard error; ``--json`` prints one JSON object instead.
"""

from __future__ import annotations

import sys
import warnings

# The order of the imports is the order of the commands in --help.
# isort: off
from modalign.cli.options import app
from modalign.cli import fit_commands, predict_commands, compare_command, info_commands

# isort: on
from modalign.cli.terminal import say
from modalign.errors import ModalignError

__all__ = ["app", "compare_command", "fit_commands", "info_commands", "main", "predict_commands"]


def main() -> None:
    """Entry point: run a command; turn errors that a user can act upon into one sentence and an exit code."""
    warnings.showwarning = lambda message, *_, **__: say(f"note: {message}")
    try:
        app()
    except ModalignError as error:
        say(f"error: {error}")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        say("stopped; what was embedded so far is kept")
        sys.exit(130)
