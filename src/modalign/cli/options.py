"""The application and the options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="Adapt a vision-language model to your own images, with a few labels or none.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

Source = Annotated[Path, typer.Argument(help="Folder (one sub-folder per class), CSV, list, zip or tar of images.")]
EncoderName = Annotated[
    str, typer.Option("--encoder", "-e", help="tiny, tiny-vision, a local folder, or a hub name.", show_default=True)
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object for machines.")]
