"""Suppression of the output of third-party libraries during a call."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def quiet(bars: bool = True) -> Iterator[None]:
    """Suppress warnings, log lines and (with ``bars``) progress bars of transformers and huggingface_hub.

    The settings of the user are restored afterwards.
    """
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars
    from huggingface_hub.utils import logging as hub_logging
    from transformers.utils import logging

    verbosity, hub_verbosity = logging.get_verbosity(), hub_logging.get_verbosity()
    bar, hub_bar = logging.is_progress_bar_enabled(), not are_progress_bars_disabled()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            logging.set_verbosity_error()
            hub_logging.set_verbosity_error()
            if bars:
                logging.disable_progress_bar()
            yield
        finally:
            logging.set_verbosity(verbosity)
            hub_logging.set_verbosity(hub_verbosity)
            if bars and bar:
                logging.enable_progress_bar()  # also enables the hub's
            if bars and not hub_bar:
                disable_progress_bars()


@contextmanager
def silent_native_code() -> Iterator[None]:
    """Suppress standard error, including that of native code, such as backtraces of parsers in Rust.

    This affects the whole process, so the context should be short.
    """
    with suppress(AttributeError, OSError, ValueError):  # none, or closed
        sys.stderr.flush()
    try:
        kept = os.dup(2)
    except OSError:  # a service without standard error
        yield
        return
    try:
        with open(os.devnull, "wb") as sink:
            os.dup2(sink.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
