"""Typer application, and the options that several commands share."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from modalign.cli.exit_handling import Command
from modalign.core.errors import InputError, options, require
from modalign.core.name_matching import join_alternatives
from modalign.core.randomness import LARGEST_SEED

app = typer.Typer(
    help="Adapt a vision-language model to your own images, with a few labels or none.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

command = partial(app.command, cls=Command)
"""Decorates the function of a command."""

_OF_METHODS = ("bench", "compare", "sweep", "tables")  # their --set names a method
_IN_PYTHON = {"seed": "random_state", "template": "templates"}
"""Argument of the library → option with another name."""

Source = Annotated[
    Path, typer.Argument(help="Folder (one sub-folder per class), CSV, list, zip or tar of images, or DATAROOT:NAME.")
]
EncoderName = Annotated[
    str,
    typer.Option(
        "--encoder", "-e", help="tiny, tiny-vision, tiny-scenes, a local folder, or a hub name.", show_default=True
    ),
]
SplitFile = Annotated[
    Path | None, typer.Option("--split", help="Split file (CoOp's JSON, or saved by Split.save) for these images.")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")]
ModelEncoder = Annotated[str | None, typer.Option(help="Name or folder of the encoder, if it is not found.")]
ModelFolder = Annotated[Path, typer.Argument(help="A folder written by fit.")]
BenchEncoder = Annotated[
    str | None,
    typer.Option(
        "--encoder", "-e", help="For images: tiny (default), a local folder, a hub name, or two joined as a+b."
    ),
]
TextEncoder = Annotated[
    str | None,
    typer.Option("--clip-encoder", help="Encoder of the class text, for images of a vision-only encoder (gpua)."),
]
SentenceFiles = Annotated[
    Path | None, typer.Option(help="JSON: class name → sentences; or a folder with one per data set (CuPL, HPT).")
]
HtmlPage = Annotated[Path | None, typer.Option(help="HTML page (.html) to write.")]
Templates = Annotated[list[str] | None, typer.Option(help="Sentence with {} for the class name; repeatable.")]
ClassFile = Annotated[Path | None, typer.Option(help="File of class names, one per line or JSON.")]
Jobs = Annotated[int, typer.Option(min=0, help="Runs at a time; 0 is one per processor core.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object for machines.")]


def seed_option(of: str) -> Any:
    """Option for a seed; ``of`` is what it decides."""
    return typer.Option(min=0, max=LARGEST_SEED, help=f"Seed of {of}.")


def check_file(path: Path | None, *endings: str, drawn: bool = False) -> None:
    """Raise before any work unless a requested file can be written, and drawn if it contains pictures."""
    from modalign.core.files import check_writable

    if path is None:
        return
    if drawn:
        require("matplotlib", "plot")
    if path.suffix.lower() not in endings:
        raise InputError(f"Expected a file name that ends in {join_alternatives(endings)}, got '{path}'.")
    check_writable(path)


def _print_version(wanted: bool) -> None:
    if wanted:
        from modalign import __version__

        typer.echo(f"modalign {__version__}")
        raise typer.Exit


@app.callback()
def use_option_names(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """While a command runs, messages contain the options of the command line in place of Python arguments."""
    commands = context.command.commands  # type: ignore[attr-defined]  # a group has commands
    of_fit = {f"fit {name}": option for name, option in options_of(commands["fit"]).items()}
    context.with_resource(options(of_fit | options_of(commands[context.invoked_subcommand])))


def options_of(command: Any) -> dict[str, str]:
    """Argument of the library, or ``argument=value`` → option; see :func:`modalign.core.errors.options`."""
    names = {}
    for parameter in command.params:
        if parameter.param_type_name != "option" or parameter.hidden:
            continue
        option, name = parameter.opts[0], _IN_PYTHON.get(parameter.name, parameter.name)
        if option == "--set":
            names["hyperparameters"] = f"--set {'METHOD.' if command.name in _OF_METHODS else ''}"
        elif name.startswith("no_"):
            names[f"{name.removeprefix('no_')}=False"] = option
        elif parameter.is_flag:
            off = parameter.secondary_opts[:1]
            names |= {name: option, f"{name}=True": option} | {f"{name}=False": o for o in off}
        else:
            names |= {name: option, parameter.name: option}
    if "clip_encoder" in names:
        names["clip_features"] = names["clip_encoder"]  # which makes them
    return names
