"""The command line. Every command is one call of a public function; this file only reads options and prints.

Exit codes: 0 done · 1 failed although the request was sound · 2 the request was not (one sentence says why).
Results go to standard output, progress and notes to standard error; ``--json`` prints one JSON object instead.
"""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer

from modalign.cli_input import hyperparameters_by_method, hyperparameters_of
from modalign.cli_output import print_json, print_table, report_quarantine, say
from modalign.errors import InputError, ModalignError

app = typer.Typer(
    help="Adapt a vision-language model to your own images, with a few labels or none.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

Source = Annotated[Path, typer.Argument(help="Folder (one sub-folder a class), CSV, list, zip or tar of images.")]
EncoderName = Annotated[
    str, typer.Option("--encoder", "-e", help="tiny, tiny-vision, a local folder, or a hub name.", show_default=True)
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object for machines.")]


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="The page to write.")] = Path("demo-report.html"),
    seeds: Annotated[int, typer.Option(min=2, help="How many few-shot draws.")] = 3,
    as_json: AsJson = False,
) -> None:
    """The main job, offline, on real handwritten digits: zero-shot, linear probe and CMM with few labels."""
    from modalign.demo import run_demo

    result = run_demo(out, seeds=seeds)
    if as_json:
        print_json(result.as_dict())
        return
    print_table(result.header, result.rows)
    say(f"\n{result.sentence}\nPictures: {out}", err=False)


@app.command()
def embed(
    source: Source,
    out: Annotated[Path, typer.Option("--out", "-o", help="The features file (.npz) to write.")],
    encoder: EncoderName = "tiny",
    view: Annotated[str, typer.Option(help="centre or mirror.")] = "centre",
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Turn images into vectors, once; a second run over the same images encodes nothing."""
    from modalign.data.items import load_items
    from modalign.encoders import load_encoder

    if out.suffix != ".npz":
        raise InputError(f"Expected --out to end in .npz, got '{out}'.")
    items = load_items(source)
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
    say(f"{len(features)} images, {features.vectors.shape[1]} numbers each, in {out}", err=False)
    report_quarantine(features.quarantined)


@app.command()
def fit(
    source: Source,
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder to save the model in.")],
    encoder: EncoderName = "tiny",
    anchor: Annotated[str | None, typer.Option(help="Vision-language encoder needed for learning only (gpua).")] = None,
    method: Annotated[str, typer.Option("--method", "-m", help="See: modalign list methods.")] = "cmm",
    shots: Annotated[int | None, typer.Option(min=1, help="Training images a class; all by default.")] = None,
    classes: Annotated[Path | None, typer.Option(help="File of class names, one a line or JSON.")] = None,
    unlabelled: Annotated[
        bool, typer.Option("--unlabelled", "--unlabeled", help="Take no label from folders; needs --classes.")
    ] = False,
    template: Annotated[list[str] | None, typer.Option(help="Sentence with {} for the class name; repeatable.")] = None,
    descriptions: Annotated[Path | None, typer.Option(help="JSON: class name → sentences (CuPL, HPT).")] = None,
    mirror: Annotated[bool | None, typer.Option(help="Also train on mirrored images; as published by default.")] = None,
    crops: Annotated[
        int, typer.Option(min=0, help="Squares cut from every image for methods on parts (wca, fair_vectors, fair).")
    ] = 0,
    seed: Annotated[int, typer.Option(help="Decides the split and everything random.")] = 0,
    checkpoint: Annotated[Path | None, typer.Option(help="Folder to resume a long training from.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Hyper-parameter name=value; repeatable.")] = None,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Adapt a classifier to a folder of images and save it."""
    from modalign.adaptation import adapt
    from modalign.methods import method_class
    from modalign.persistence import check_destination

    check_destination(out)
    hyperparameters = hyperparameters_of(method_class(method), set_ or [])
    if crops and "crops" in hyperparameters:
        raise InputError("Expected --crops or --set crops=…, got both; choose one.")
    model = adapt(
        source,
        encoder=encoder,
        anchor=anchor,
        device=device,
        method=method,
        shots=shots,
        classes=classes,
        unlabelled=unlabelled,
        templates=template or None,
        descriptions=descriptions,
        mirror=mirror,
        random_state=seed,
        checkpoint=checkpoint,
        **{"crops": crops, **hyperparameters},
    )
    model.save(out)
    record = model.record
    if as_json:
        diagnosis = getattr(model.method, "diagnosis_", {})
        print_json({"out": str(out), "classes": list(model.class_names), "record": record, "diagnosis": diagnosis})
        return
    images = record["images"]
    say(
        f"{type(model.method).__name__} on {model.encoder.name}: {len(model.class_names)} classes, "
        f"{images['train']} images to learn from, {images['validation']} to validate, {record['seconds']:.1f} s.",
        err=False,
    )
    for note in record["notes"]:
        say(f"note: {note}")
    report_quarantine(record["quarantined"])
    say(f"Saved in {out}; try: modalign evaluate {out} {source}", err=False)


@app.command()
def predict(
    model: Annotated[Path, typer.Argument(help="A folder written by fit.")],
    images: Annotated[list[Path], typer.Argument(help="Image files, or one folder, list or archive.")],
    top: Annotated[int, typer.Option(min=1, max=5, help="How many answers an image.")] = 1,
    reject: Annotated[
        float | None,
        typer.Option(help="Answer 'none of these' too; the share of known images that may be refused, such as 0.05."),
    ] = None,
    encoder: Annotated[str | None, typer.Option(help="Where the encoder is now, if it has moved.")] = None,
    as_json: AsJson = False,
) -> None:
    """Name new images, with calibrated probabilities."""
    from modalign.data.items import load_items

    source = images[0] if len(images) == 1 and not _is_image(images[0]) else images
    items = load_items(source)
    predictions = _load_classifier(model, encoder).predict(items, reject=False if reject is None else reject)
    if as_json:
        print_json(
            {
                "predictions": [
                    {"id": p.id, "name": p.name, "probability": p.probability, "top": dict(p.top[:top])}
                    | ({} if reject is None else {"rejected": p.rejected})
                    for p in predictions
                ],
                "quarantined": [vars(q) for q in predictions.quarantined],
            }
        )
        return
    answers = [", ".join(f"{name} {100 * value:.1f} %" for name, value in p.top[:top]) for p in predictions]
    rows = [[p.id, f"{p.name} ({a})" if p.rejected else a] for p, a in zip(predictions, answers, strict=True)]
    print_table(["image", "answer"], rows)
    report_quarantine(predictions.quarantined)


@app.command()
def evaluate(
    model: Annotated[Path, typer.Argument(help="A folder written by fit.")],
    source: Source,
    confusion: Annotated[Path | None, typer.Option(help="Confusion matrix picture (.png or .svg).")] = None,
    page: Annotated[Path | None, typer.Option(help="One HTML page with everything.")] = None,
    include_fitted: Annotated[bool, typer.Option(help="Keep images that the model was fitted on.")] = False,
    encoder: Annotated[str | None, typer.Option(help="Where the encoder is now, if it has moved.")] = None,
    as_json: AsJson = False,
) -> None:
    """Top-1 accuracy with a 95 % interval, accuracy a class, and the confusion matrix as a picture."""
    from modalign.data.items import load_items
    from modalign.report.evaluation import save_confusion, save_evaluation_page

    items = load_items(source)
    classifier = _load_classifier(model, encoder)
    result = classifier.evaluate(items, include_fitted=include_fitted)
    picture = save_confusion(result, confusion or Path(f"{model.resolve().name}-confusion.png"))
    if page is not None:
        save_evaluation_page(classifier, result, page)
    if as_json:
        print_json(
            {
                "top1": result.accuracy.top1,
                "interval": [result.accuracy.low, result.accuracy.high],
                "n": result.accuracy.n,
                "calibration_error": result.calibration_error,
                "per_class": [vars(c) for c in result.per_class],
                "confusion": result.confusion.tolist(),
                "classes": list(result.class_names),
                "picture": str(picture),
                "left_out": len(result.left_out),
                "quarantined": [vars(q) for q in result.quarantined],
            }
        )
        return
    print_table(
        ["class", "images", "accuracy"],
        [[c.name, str(c.n), f"{100 * c.accuracy:.1f} %" if c.n else "–"] for c in result.per_class],
    )
    say(f"\ntop-1 accuracy: {result.accuracy}", err=False)
    say(f"calibration error: {100 * result.calibration_error:.1f} %\nconfusion matrix: {picture}", err=False)
    if result.left_out:
        say(f"note: left out {len(result.left_out)} images that the model was fitted on")
    report_quarantine(result.quarantined)


@app.command()
def compare(
    source: Annotated[Path, typer.Argument(help="Images as for fit, or a features file (.npz) written by embed.")],
    encoder: Annotated[
        str | None, typer.Option("--encoder", "-e", help="tiny by default; for features the one they name.")
    ] = None,
    anchor: Annotated[
        str | None,
        typer.Option(
            "--anchor", "--anchor-encoder", help="Vision-language encoder beside a vision-only one; its .npz for .npz."
        ),
    ] = None,
    text: Annotated[Path | None, typer.Option(help="Class-text vectors (.npz) in place of embedded names.")] = None,
    no_text: Annotated[bool, typer.Option("--no-text", help="Compare without class text.")] = False,
    methods: Annotated[str | None, typer.Option(help="Names with commas, such as cmm,gpua; all by default.")] = None,
    shots: Annotated[str, typer.Option(help="Labelled images a class; 0 is none.")] = "0,1,2,4,8,16,all",
    seeds: Annotated[int, typer.Option(min=1, help="How many draws of the labelled images.")] = 3,
    classes: Annotated[Path | None, typer.Option(help="File of class names, one a line or JSON.")] = None,
    template: Annotated[list[str] | None, typer.Option(help="Sentence with {} for the class name; repeatable.")] = None,
    descriptions: Annotated[Path | None, typer.Option(help="JSON: class name → sentences (CuPL, HPT).")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="method.name=value; repeatable.")] = None,
    ablations: Annotated[bool, typer.Option(help="Also switch off what each method is made of.")] = True,
    page: Annotated[Path | None, typer.Option(help="One HTML page with everything.")] = None,
    record: Annotated[Path | None, typer.Option(help="File of runs (.jsonl); those in it are not repeated.")] = None,
    jobs: Annotated[int, typer.Option(min=0, help="Runs at a time; 0 is one a processor core.")] = 0,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Run every method on your own images, at every number of labels, and say what is beyond luck."""
    from modalign.evaluate.compare import compare as run
    from modalign.report.comparison import check_page, save_comparison_page

    if page is not None:
        check_page(page)
    if text is not None and no_text:
        raise InputError("Expected --text or --no-text, got both; choose one.")
    result = run(
        source, text=False if no_text else text, encoder=encoder, anchor=anchor,
        methods=methods.split(",") if methods else None,
        shots=[int(k) if k.strip().isdigit() else k.strip() for k in shots.split(",")],
        seeds=seeds, classes=classes, templates=template or None, descriptions=descriptions,
        hyperparameters=hyperparameters_by_method(set_ or []), ablations=ablations, record=record,
        jobs=jobs or os.cpu_count() or 1, device=device,
    )  # fmt: skip
    if page is not None:
        save_comparison_page(result, page)
    if as_json:
        print_json(result.as_dict())
        return
    print_table(result.header, result.rows)
    say(f"\n{result.sentence}{f' Pictures: {page}' if page else ''}", err=False)
    for note in result.remarks:
        say(f"note: {note}")
    report_quarantine(result.record["quarantined"])


@app.command("list")
def list_(
    what: Annotated[str, typer.Argument(help="methods, encoders, datasets, or a method's name.")] = "methods",
    as_json: AsJson = False,
) -> None:
    """What there is: methods (and the hyper-parameters of one), encoders, datasets."""
    from modalign.listing import listing

    header, rows = listing(what)
    if as_json:
        print_json([dict(zip(header, row, strict=True)) for row in rows])
        return
    print_table(header, rows)


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """Check this machine: versions, device, memory, cache, extras, and one image through the whole path."""
    from modalign.doctor import examine

    findings = examine()
    if as_json:
        print_json([vars(f) for f in findings])
    else:
        print_table(["", "what", "found"], [["ok" if f.ok else "!!", f.what, f.found] for f in findings])
    if not all(f.ok for f in findings):
        raise typer.Exit(1)


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


def _load_classifier(folder: Path, encoder: str | None) -> Any:
    from modalign.classifier import Classifier, load

    model = load(folder, encoder=encoder)
    if not isinstance(model, Classifier):
        raise InputError(f"Expected a classifier in '{folder}', got a bare method; it knows no encoder for images.")
    return model


def _is_image(path: Path) -> bool:
    from modalign.data.items import IMAGE_SUFFIXES

    return path.suffix.lower() in IMAGE_SUFFIXES


if __name__ == "__main__":
    main()
