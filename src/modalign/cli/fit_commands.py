"""``embed`` and ``fit``: from images to vectors, and to a saved model."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from modalign.cli.arguments.assignments import settings_of
from modalign.cli.arguments.given_options import refuse_unused
from modalign.cli.multi_label_command import fit_multi_label
from modalign.cli.options import (
    AsJson,
    ClassFile,
    Device,
    EncoderName,
    Source,
    SplitFile,
    Templates,
    check_file,
    command,
    seed_option,
)
from modalign.cli.shard_options import Addresses, OneShard, Ray, Shards, Verify, Workers, is_sharded, run_sharded
from modalign.cli.terminal import next_step, print_json, print_lines, print_table, report_quarantine
from modalign.core.card_names import CLASSIFIER, MULTI_LABEL, holds
from modalign.core.child_processes import launched
from modalign.core.errors import InputError, require_choice
from modalign.core.renaming import CENTER, present_value

if TYPE_CHECKING:
    from modalign.model.adaptation.holdout import Validation
    from modalign.model.classifier import Classifier


@command()
def embed(
    source: Source,
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", help="Features file to write (.npz, or .safetensors to be mapped), or folder of parts."
        ),
    ],
    encoder: EncoderName = "tiny",
    view: Annotated[str, typer.Option(help="center or mirror.")] = "center",
    device: Device = "auto",
    shards: Shards = None,
    workers: Workers = None,
    shard: OneShard = None,
    ray: Ray = None,
    verify: Verify = False,
    dtype: Annotated[str, typer.Option(help="Type of the vectors in parts: float16 or float32.")] = "float16",
    addresses: Addresses = False,
    as_json: AsJson = False,
) -> None:
    """Encode images as vectors; images that are in the cache are not encoded again."""
    if verify or is_sharded(shards, workers, shard, ray):
        from modalign.shards import embed_shards
        from modalign.shards.shard_jobs import EmbeddingJob

        require_choice("--dtype", dtype, ("float16", "float32"))
        job = EmbeddingJob(encoder, device, present_value("view", view, CENTER), store_type=dtype)
        run_sharded(
            partial(embed_shards, job=job, verify=verify), source, out, shards=shards, workers=workers, shard=shard,
            ray=ray, addresses=addresses, as_json=as_json,
        )  # fmt: skip
        return
    from modalign.data.items import load_items
    from modalign.data.label_sets import note_on_sets
    from modalign.encoders import load_encoder

    refuse_unused("with --shards, since one file has the vectors in float32", "dtype")
    if not out.suffix:
        raise InputError(
            f"Expected a file name that ends in .npz or .safetensors, or --shards with a folder of parts, got '{out}'."
        )
    check_file(out, ".npz", ".safetensors")
    items = load_items(source, addresses=addresses)
    features = load_encoder(encoder, device=device).embed_images(items, view=view)
    features.save(out)
    if as_json:
        print_json(
            {
                "out": str(out),
                "embedded": len(features),
                "dim": features.vectors.shape[1],
                "encoder": vars(features.spec),
                "quarantined": [vars(q) for q in features.quarantined],
            }
        )
        return
    print_lines(f"{len(features)} images, {features.vectors.shape[1]} numbers each, in {out}", err=False)
    for note in [*items.notes, *note_on_sets(items)]:
        print_lines(f"note: {note}")
    report_quarantine(features.quarantined)


@command()
def fit(
    source: Source,
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder to save the model in.")],
    encoder: EncoderName = "tiny",
    clip_encoder: Annotated[
        str | None, typer.Option(help="Vision-language encoder that is used for training only (gpua).")
    ] = None,
    method: Annotated[str, typer.Option("--method", "-m", help="See: modalign list methods.")] = "auto",
    time: Annotated[
        str | None,
        typer.Option(
            help="Time limit of auto: seconds, or 10m, 1h; 20 seconds by default. From 5m on it also tries "
            "methods inside the encoder."
        ),
    ] = None,
    shots: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Training images per class; all by default. With cross-fitting, the default for methods on vectors, "
            "the model also learns from up to 4 more per class, which would otherwise validate.",
        ),
    ] = None,
    validation: Annotated[
        str,
        typer.Option(
            help="Held-out images: a number per class, a share such as 0.2, cross (each image is predicted by a model "
            "that was not fitted on it), none, or auto."
        ),
    ] = "auto",
    classes: ClassFile = None,
    unlabeled: Annotated[
        bool, typer.Option("--unlabeled", help="Ignore the labels of the source; needs --classes.")
    ] = False,
    split: SplitFile = None,
    multi_label: Annotated[
        bool,
        typer.Option("--multi-label", help="Images may show several classes: a CSV with labels 'a;b', or 0/1 columns."),
    ] = False,
    template: Templates = None,
    descriptions: Annotated[Path | None, typer.Option(help="JSON: class name → sentences (CuPL, HPT).")] = None,
    mirror: Annotated[
        bool | None, typer.Option(help="Also train on mirrored images; by default as in the publication of the method.")
    ] = None,
    crops: Annotated[
        int, typer.Option(min=0, help="Square crops per image, for methods that use crops (wca, fair_vectors, fair).")
    ] = 0,
    seed: Annotated[int, seed_option("the split and of the method")] = 0,
    checkpoint: Annotated[
        Path | None, typer.Option(help="Folder for checkpoints of training inside the encoder, to resume from.")
    ] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Hyper-parameter name=value (repeatable).")] = None,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Adapt a classifier to a folder of images and save it."""
    replaces = holds(out, MULTI_LABEL if multi_label else CLASSIFIER)
    replaced = f"note: the earlier model in '{out}' was replaced"
    if multi_label:
        chosen = None if validation == "auto" else validation
        unused = {"clip_encoder": clip_encoder, "shots": shots, "unlabeled": unlabeled, "mirror": mirror,
                  "crops": crops, "checkpoint": checkpoint, "validation": chosen}  # fmt: skip
        fit_multi_label(
            source, out, encoder=encoder, device=device, method=method, time=time, settings=set_ or [], classes=classes,
            split=split, templates=template or None, descriptions=descriptions, random_state=seed, unused=unused,
            as_json=as_json,
        )  # fmt: skip
        print_lines(*[replaced] * replaces)
        return
    from modalign.model.adaptation import adapt
    from modalign.model.persistence import check_destination
    from modalign.tune.training_state import check_checkpoint

    check_destination(out)
    if checkpoint is not None:
        check_checkpoint(checkpoint)
    hyperparameters = settings_of(method, set_ or [], time)
    if crops and "crops" in hyperparameters:
        raise InputError("Expected --crops or --set crops=…, got both; choose one.")
    model = adapt(
        source,
        encoder=encoder,
        clip_encoder=clip_encoder,
        device=device,
        method=method,
        shots=shots,
        validation=_validation(validation),
        classes=classes,
        unlabeled=unlabeled,
        split=split,
        templates=template or None,
        descriptions=descriptions,
        mirror=mirror,
        random_state=seed,
        checkpoint=checkpoint,
        **{"crops": crops, **hyperparameters},
    )
    if launched()[0] == 0:  # of several processes with the same model, one
        model.save(out)
        print_lines(*[replaced] * replaces)
    if as_json:
        diagnosis = getattr(model.method, "diagnosis_", {})
        about = {"out": str(out), "classes": list(model.class_names)}
        print_json({**about, "record": model.record, "diagnosis": diagnosis})
        return
    _print_fit(model, method)
    print_lines(f"Saved in {out}; {_next_step(model, out, source, split, classes, encoder)}", err=False)


def _print_fit(model: Classifier, method: str) -> None:
    """Print the outcome of a fit, the candidates and the notes."""
    from modalign.evaluate.candidates import HEADER, candidate_rows, unfinished
    from modalign.evaluate.outcome import outcome_lines

    record = model.record
    print_lines(
        f"{type(model.method).__name__} on {model.encoder.name}: {len(model.class_names)} classes, fitted to "
        f"{record['images']['train']} images in {record['seconds']:.1f} s.",
        *_decided(model, method),
        *(f"{line[:1].upper()}{line[1:]}." for line in outcome_lines(record["outcome"])),
        err=False,
    )
    if record["candidates"]:
        print_table(list(HEADER), candidate_rows(record["candidates"]))
    late = unfinished(record["candidates"], getattr(model.method, "diagnosis_", {}).get("not_tried", "none"))
    for note in [*record["notes"], *record["outcome"]["notes"], *([late] if late else [])]:
        print_lines(f"note: {note}")
    report_quarantine(record["quarantined"])


def _decided(model: Classifier, method: str) -> list[str]:
    """What was left to the program: the method and the precision of its training."""
    diagnosis = getattr(model.method, "diagnosis_", {})
    chosen = [f"Chosen: {diagnosis.get('ensemble', model.method.title)}."] if method == "auto" else []
    return chosen + ([f"Trained in {diagnosis['precision']}."] if "precision" in diagnosis else [])


def _validation(text: str) -> Validation:
    """Convert ``--validation`` to a number if it is one."""
    for number in (int, float):
        with suppress(ValueError):
            return number(text)
    return cast("Validation", text)  # checked later with the images


def _next_step(
    model: Classifier, out: Path, source: Path, split: Path | None, classes: Path | None, encoder: str
) -> str:
    """Return a command that works for the saved model."""
    moved = ["--encoder", encoder] if any(Path(part).is_dir() for part in encoder.split("+")) else []
    given = {"--split": split, "--classes": classes}
    files = [word for option, path in given.items() if path is not None for word in (option, path)]
    testable = model.can_evaluate(source, split=split, classes=classes)
    return next_step(out, source, *(files if testable else ()), *moved, testable=testable)
