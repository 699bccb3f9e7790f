"""``studio``: a local page to label images and refit a classifier."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from modalign.cli.arguments.given_options import refuse_unused, was_given
from modalign.cli.options import Device, Templates, command, seed_option
from modalign.cli.terminal import print_lines, report_quarantine
from modalign.core.errors import require


@command()
def studio(
    source: Annotated[Path, typer.Argument(help="Folder, CSV, list, zip or tar of images.")],
    classes: Annotated[
        Path | None, typer.Option(help="File of class names, one per line or JSON; by default the folders.")
    ] = None,
    model: Annotated[Path | None, typer.Option("--model", "-m", help="A saved classifier to begin with.")] = None,
    encoder: Annotated[
        str, typer.Option("--encoder", "-e", help="As for fit; with --model its encoder, if it is not found.")
    ] = "tiny",
    template: Templates = None,
    state: Annotated[
        Path | None, typer.Option(help="Folder for labels and thumbnails; by default FOLDER.studio next to the images.")
    ] = None,
    import_labels: Annotated[
        bool, typer.Option("--import-labels", help="Begin with the labels of the folders or the table.")
    ] = False,
    multi_label: Annotated[
        bool, typer.Option("--multi-label", help="Images may show several classes, or none.")
    ] = False,
    listed: Annotated[
        Path | None,
        typer.Option("--list", help="Images to show first: a file of audit --out or search --json."),
    ] = None,
    fast_only: Annotated[
        bool, typer.Option("--fast-only", help="Refit with the anchored Gaussian only, not with auto.")
    ] = False,
    host: Annotated[
        str, typer.Option(help="Address to listen on; if other machines reach it, requests need the printed token.")
    ] = "127.0.0.1",
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port; by default a free one from 8321 on.")
    ] = None,
    seed: Annotated[int, seed_option("the exam set and of the refits")] = 0,
    device: Device = "auto",
) -> None:
    """Label images in a local page, refit, and show the accuracy on a random exam set."""
    require("fastapi", "app")
    require("uvicorn", "app")
    from modalign.app.studio.opening import open_session
    from modalign.app.studio.routes import studio_app
    from modalign.app.studio.state_folder import state_folder
    from modalign.app.web import listen, run_app

    if model is not None:
        refuse_unused("without --model, whose encoder runs on the device that is found", "device")
    opened, access = listen(host, port)  # a port in use is refused before a new folder is made
    with closing(opened):
        session = open_session(
            source,
            state=state_folder(source) if state is None else state,
            classes=classes,
            encoder=encoder if model is None or was_given("encoder") else None,
            model=model,
            templates=tuple(template) if template else None,
            import_labels=import_labels,
            multi_label=multi_label,
            listed=listed,
            seed=seed,
            thorough=not fast_only,
            device=device,
        )
        try:
            report_quarantine(session.features.quarantined)
            if was_given("seed") and session.settings.seed != seed:
                print_lines(f"note: the session keeps its first seed, {session.settings.seed}")
            print_lines(f"{len(session.labeling)} images; labels are kept in {session.labeling.log.folder}")
            print_lines(f"Open {access.url}", "Stop with Ctrl-C.", err=False)
            run_app(studio_app(session, access), opened)
        finally:
            session.close()
