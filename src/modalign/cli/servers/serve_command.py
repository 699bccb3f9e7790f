"""``serve``: an HTTP service for a saved model."""

from __future__ import annotations

import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from modalign.cli.options import ModelEncoder, ModelFolder, command
from modalign.cli.predict_commands import load_classifier
from modalign.cli.terminal import print_lines
from modalign.core.card_names import MULTI_LABEL, holds
from modalign.core.errors import InputError, argument, require

if TYPE_CHECKING:
    from modalign.model.classifier import Classifier
    from modalign.model.multi_label import MultiLabelClassifier

MEBIBYTE = 2**20


@command()
def serve(
    model: ModelFolder,
    host: Annotated[
        str, typer.Option(help="Address to listen on; every other one than 127.0.0.1 needs a token.")
    ] = "127.0.0.1",
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Port; by default the first free from 8321.")
    ] = None,
    token: Annotated[
        str | None, typer.Option(envvar="MODALIGN_TOKEN", help="Bearer token that requests must have.")
    ] = None,
    token_file: Annotated[Path | None, typer.Option(help="File that holds the token.")] = None,
    max_batch: Annotated[int, typer.Option(min=1, help="Largest number of images per batch.")] = 32,
    max_wait: Annotated[float, typer.Option(min=0, help="Milliseconds that an image waits for a larger batch.")] = 0.0,
    max_queue: Annotated[
        int, typer.Option(min=1, help="Largest number of waiting images; beyond it requests get status 503.")
    ] = 256,
    max_body: Annotated[int, typer.Option(min=1, help="Largest size of a request in MiB.")] = 20,
    deadline: Annotated[float, typer.Option(help="Seconds until a request gets status 504.")] = 30.0,
    encoder: ModelEncoder = None,
) -> None:
    """Answer HTTP requests with a saved model, until Ctrl-C or SIGTERM."""
    require("fastapi", "app")
    require("prometheus_client", "app")
    from modalign.app.serving.serve_settings import ServeSettings
    from modalign.app.web import is_loopback, listen, run_app

    secret = _token(token, token_file)
    if secret is None and not is_loopback(host):
        raise InputError(
            f"Expected {argument('token')} with the host '{host}', which other machines can reach, got none; give one, "
            "or set MODALIGN_TOKEN."
        )
    settings = ServeSettings(
        max_batch=max_batch,
        max_wait=max_wait / 1000,
        max_queue=max_queue,
        max_images=min(ServeSettings.max_images, max_queue),
        max_body=max_body * MEBIBYTE,
        deadline=deadline,
    )
    opened, access = listen(host, port, token=secret)
    with opened:
        classifier = _servable(model, encoder)
        from modalign.app.serving.service import create_service

        service = create_service(classifier, access, settings)
        address = replace(access, token=None).url
        print_lines(f"{type(classifier.method).__name__} on {classifier.encoder.name}: {address}docs", err=False)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # raised again when all requests have ended
        run_app(service, opened, drain=settings.drain)


def _servable(folder: Path, encoder: str | None) -> Classifier | MultiLabelClassifier:
    """The saved classifier, of one or of several classes per image."""
    if not holds(folder, MULTI_LABEL):
        return load_classifier(folder, encoder)
    from modalign.model.multi_label.multi_label_files import load_multi_label

    return load_multi_label(folder, encoder=encoder)


def _token(token: str | None, file: Path | None) -> str | None:
    """Return the token from the option or the file; None without one."""
    from modalign.core.files import read_text

    if file is None:
        found = token
    elif token is not None:
        raise InputError("Expected --token or --token-file, got both; choose one.")
    else:
        found = read_text(file, "a token").strip()
    if found is not None and (len(found) < 8 or not found.isascii() or not found.isprintable() or " " in found):
        raise InputError("Expected a token of at least 8 printable ASCII characters without blanks, got another one.")
    return found
