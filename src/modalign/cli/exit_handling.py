"""Exit codes and messages of commands that are interrupted or fail with an unexpected error."""

from __future__ import annotations

import errno
import os
import platform
import secrets
import shlex
import tempfile
import time
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand

from modalign.cli.arguments.given_options import remember_given
from modalign.cli.terminal import print_lines
from modalign.core.card_names import CARD_FILE, MASKS
from modalign.core.errors import InputError, fault_sentence
from modalign.core.renaming import warn_renamed

STOPPED = 130
"""Exit code after Ctrl-C."""
UNFORESEEN = 70
"""Exit code after an unexpected error."""
NO_READER = 141
"""Exit code if the program that read the output has ended, such as ``| head``."""
_CHECKPOINT = "training.json"  # the card of modalign.tune.training_state, without importing torch
_MASKS = ("masks.partial.jsonl", MASKS)  # of modalign.segmentation.mask_folder, without importing torch
_EMBEDDING = (
    "embed", "fit", "compare", "predict", "evaluate", "explain", "figures", "audit", "search", "demo",
)  # fmt: skip
_OF_THE_MACHINE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.EIO, errno.EACCES,
                   errno.EPERM, errno.ENOMEM, errno.EFBIG}  # fmt: skip


FORMER_OPTIONS = {"--anchor": "--clip-encoder", "--anchor-encoder": "--clip-encoder", "--unlabelled": "--unlabeled"}
"""Former → current name of options."""


class Stopped(BaseException):
    """Raised after Ctrl-C; the message lists what is kept. Typer prints nothing for a KeyboardInterrupt."""


class Command(TyperCommand):
    """Command that accepts former names of options, and reports what is kept when it is stopped."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]  # as below
        words = [_present(word) for word in args]
        require_text(words, self.params)
        return super().parse_args(ctx, words)

    def invoke(self, ctx: typer.Context) -> Any:  # type: ignore[override]  # Typer's own name for the context of its base
        ctx.params = {name: _with_plain_paths(value) for name, value in ctx.params.items()}
        remember_given(ctx)
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise Stopped(what_is_kept(self.name or "", ctx.params)) from None
        except BrokenPipeError:
            mute()
            raise typer.Exit(NO_READER) from None


def require_text(words: Sequence[str], parameters: Sequence[Any]) -> None:
    """Raise for empty text, which as a path is the current folder, unless it is the default of an option."""
    options = {name: p for p in parameters if p.param_type_name == "option" and not p.is_flag for name in p.opts}
    for before, word in zip(["", *words], words, strict=False):
        option, equals, value = word.partition("=") if word.startswith("--") else (before, "=", word)
        if not equals or value or (option in options and options[option].default == ""):
            continue
        place = f"{option} to have a value" if option in options else "every argument to have a value"
        raise InputError(f"Expected {place}, got empty text; a variable of the shell may not be set.")


def _with_plain_paths(value: Any) -> Any:
    """Replace ``file://`` addresses in the value of a parameter by the paths that they name."""
    if isinstance(value, (list, tuple)):
        return type(value)(map(_with_plain_paths, value))
    if not isinstance(value, Path):
        return value
    from modalign.core.files import plain_path

    return Path(plain_path(value))


def _present(word: str) -> str:
    """Replace a former name of an option in an argument by its current name."""
    name, *value = word.split("=", 1)
    if name not in FORMER_OPTIONS:
        return word
    warn_renamed(name, FORMER_OPTIONS[name])
    return "=".join([FORMER_OPTIONS[name], *value])


def what_is_kept(command: str, options: Mapping[str, Any]) -> str:
    """Return one sentence for a stopped command: what is kept, and how to continue."""
    kept = []
    labels = _labels(options) if command == "studio" else None
    if labels is not None:
        kept.append(f"the labels in '{labels}'")
    elif command in (*_EMBEDDING, "studio"):
        from modalign.encoders.features.store import default_cache

        with suppress(InputError, OSError):  # no home folder: there is no cache
            if default_cache().is_dir():
                kept.append(f"image vectors computed so far in the cache '{default_cache()}'")
    checkpoint, record, out = options.get("checkpoint"), options.get("record"), options.get("out")
    if out is not None and (Path(out) / CARD_FILE).is_file():
        kept.append(f"finished parts in '{out}'")
    if command == "segment" and out is not None and any((Path(out) / name).is_file() for name in _MASKS):
        kept.append(f"the masks of finished photos in '{out}'")
    if checkpoint is not None and any(Path(checkpoint).glob(_CHECKPOINT)):
        kept.append(f"the training up to its last checkpoint in '{checkpoint}'")
    if record is not None and Path(record).is_file():
        kept.append(f"finished runs in '{record}'")
    return f"stopped; kept: {', '.join(kept)}; run the same command to continue" if kept else "stopped"


def _labels(options: Mapping[str, Any]) -> Path | None:
    """Folder of the labels of a studio; None if it holds none yet."""
    from modalign.app.studio.label_log import LOG_FILE
    from modalign.app.studio.state_folder import state_folder

    folder = options["state"] or state_folder(options["source"])
    return folder if (folder / LOG_FILE).is_file() else None


def mute() -> None:
    """Discard remaining output, so that the interpreter does not report an error at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def explain(error: Exception, arguments: Sequence[str]) -> int:
    """Print one sentence about an error that was not handled elsewhere; return the exit code."""
    text = " ".join(str(error).split())
    if isinstance(error, MemoryError) or "out of memory" in text.lower() or "can't allocate memory" in text:
        print_lines("error: there is not enough memory; use fewer images, a smaller encoder or a larger machine")
        return 1
    if isinstance(error, OSError) and error.errno in _OF_THE_MACHINE:
        print_lines(f"error: {error.strerror}{f': {error.filename!r}' if error.filename else ''}")
        return 1
    if isinstance(error, OSError) and error.errno in (errno.ENAMETOOLONG, errno.ELOOP):
        print_lines(
            f"error: Expected a path that the file system takes, got '{error.filename!s:.60}': {error.strerror}."
        )
        return 2
    summary = f"{type(error).__name__}{f' ({text[:200]})' if text else ''}"
    try:
        print_lines(
            f"error: unexpected {summary}; this is a bug, please report it with the file '{report(error, arguments)}'"
        )
    except Exception:  # no place for a file
        traceback.print_exception(error)
    return UNFORESEEN


def usage_in_words(error: Any) -> str:
    """Return the message of a usage error of typer; that of a value which its validator refused is our own."""
    faults = error.__cause__.errors() if hasattr(error.__cause__, "errors") else []
    if not faults or getattr(error, "param", None) is None:
        return " ".join(error.format_message().split()).rstrip(".")
    name = max(error.param.opts, key=len) if error.param.opts else error.param.human_readable_name
    return fault_sentence(name, faults[0])


def report(error: Exception, arguments: Sequence[str]) -> Path:
    """Write a report for the maintainers to a new file that only the user can read; the home folder is ``~`` in it."""
    from modalign.core.files import write
    from modalign.core.record import versions

    lines = [
        f"command: modalign {shlex.join(arguments)}",
        f"time: {time.strftime('%Y-%m-%d %H:%M:%S %z')}",
        f"system: {platform.platform()}",
        *(f"{package}: {number}" for package, number in versions().items()),
        "",
        "".join(traceback.format_exception(error)),
    ]
    text = "\n".join(lines)
    home = str(Path.home())
    if home != os.sep:
        text = text.replace(home, "~")
    name = f"error-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(4)}.txt"
    for place in (_reports, tempfile.gettempdir):
        with suppress(Exception):  # the error may lie in the place itself
            folder = Path(place())
            folder.mkdir(parents=True, exist_ok=True)
            return write(folder / name, text.encode(errors="backslashreplace"), private=True)
    raise OSError("no folder is writable")


def _reports() -> Path:
    from modalign.encoders.features.store import default_cache

    return default_cache() / "reports"
