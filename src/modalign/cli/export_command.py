"""``export``: write a saved model as an ONNX graph with small programs that run it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from modalign.cli.options import AsJson, ModelEncoder, ModelFolder, command
from modalign.cli.predict_commands import load_classifier
from modalign.cli.terminal import print_json, print_lines

if TYPE_CHECKING:
    from modalign.export.parity import Parity


@command()
def export(
    model: ModelFolder,
    out: Annotated[Path, typer.Option("--out", "-o", help="New folder for the graph and its programs.")],
    check: Annotated[
        Path | None, typer.Option(help="Photos on which graph and model must agree; 40 digits by default.")
    ] = None,
    int8: Annotated[
        bool, typer.Option("--int8", help="Also write the graph in 8 bits, and compare its predictions.")
    ] = False,
    web: Annotated[
        Path | None, typer.Option(help="node_modules with onnxruntime-web, to add a page that runs the model.")
    ] = None,
    encoder: ModelEncoder = None,
    as_json: AsJson = False,
) -> None:
    """Write a model as an ONNX graph that runs without torch: in Python, in Node, in a browser."""
    from dataclasses import asdict

    from modalign.export.exportable import check_folder, runtime_files
    from modalign.export.onnx_folder import export_onnx

    check_folder(out)
    runtime_files(web)
    found = export_onnx(load_classifier(model, encoder), out, check=check, int8=int8, web=web)
    if as_json:
        print_json(asdict(found) | {"folder": str(found.folder)})
        return
    photos = "photos" if found.own_photos else "bundled digits (give your own by --check)"
    print_lines(f"graph: {found.folder / 'model.onnx'}, {found.megabytes:.1f} MB", err=False)
    print_lines(f"{_words(found.parity)}; compared on {found.parity.images} {photos}", err=False)
    print_lines(f"resized by Pillow, as predict.py does: {_words(found.resized_by_pillow)}", err=False)
    if found.as_fitted is not None:
        print_lines(f"compared with the model in half precision: {_words(found.as_fitted)}", err=False)
    if found.int8 is not None:
        print_lines(f"in 8 bits, {found.int8_megabytes:.1f} MB: {_words(found.int8)}{_accuracy(found.int8)}", err=False)


def _words(found: Parity) -> str:
    return (
        f"probabilities differ by at most {found.max_difference:.2g}, decisions on {found.decisions} of {found.images}"
    )


def _accuracy(found: Parity) -> str:
    if found.accuracy is None or found.accuracy_before is None:
        return ""
    return (
        f"; accuracy on {found.labeled} labeled images that it was not fitted on {100 * found.accuracy:.1f} %, "
        f"before {100 * found.accuracy_before:.1f} %"
    )
