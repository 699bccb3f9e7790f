"""Page of a model on the hub: usage, training, intended use, limits and evaluation."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from modalign.core.display import markdown
from modalign.evaluate.metrics import percent

if TYPE_CHECKING:
    from modalign.model.classifier import Classifier
    from modalign.model.predictions import Evaluation

_HUB_ENCODER = re.compile(r"[\w.-]+/[\w.-]+", flags=re.ASCII)
_SHOWN = 50  # classes


def model_page(model: Classifier, repo_id: str, evaluation: Evaluation | None, license: str | None) -> str:
    """``README.md`` with the metadata of the hub, in plain Markdown."""
    return f"---\n{_metadata(model, repo_id, evaluation, license)}\n---\n\n{_text(model, repo_id, evaluation)}"


def _metadata(model: Classifier, repo_id: str, evaluation: Evaluation | None, license: str | None) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    accuracy = _accuracy(model, evaluation)
    results = None
    if accuracy is not None:
        results = [
            EvalResult(
                task_type="image-classification",
                dataset_type="image-folder",
                dataset_name=accuracy["data"],
                metric_type="accuracy",
                metric_name=f"accuracy (95 % interval {accuracy['low']:.4f} to {accuracy['high']:.4f})",
                metric_value=round(accuracy["value"], 4),
            )
        ]
    encoder = model.encoder.spec.name
    data = ModelCardData(
        base_model=encoder if _HUB_ENCODER.fullmatch(encoder) else None,
        library_name="modalign",
        license=license,
        pipeline_tag="image-classification",
        tags=["modalign", "image-classification"],
        model_name=repo_id.rpartition("/")[2] if results else None,
        eval_results=results,
    )
    return data.to_yaml().strip()


def _accuracy(model: Classifier, evaluation: Evaluation | None) -> dict[str, Any] | None:
    """The accuracy to state: on given test images, else on held-out training images; None if there is neither."""
    if evaluation is not None:
        found = evaluation.accuracy
        n = f"{found.n} test images"
        return {"value": found.top1, "low": found.low, "high": found.high, "data": n, "n": found.n}
    held_out = (model.record.get("outcome") or {}).get("held_out")
    if not held_out:
        return None
    data = f"{held_out['n']} training images, {held_out['how']}"
    return {"value": held_out["accuracy"], **{key: held_out[key] for key in ("low", "high", "n")}, "data": data}


def _text(model: Classifier, repo_id: str, evaluation: Evaluation | None) -> str:
    names = [markdown(name) for name in model.class_names]
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    sections = {
        "": f"An image classifier of {len(names)} classes, made with modalign.",
        "Classes": f"{', '.join(names[:_SHOWN])}{more}.",
        "How to use it": (
            f'```python\nimport modalign as ma\n\nmodel = ma.load("{repo_id}")\nmodel.predict(["photo.jpg"])\n```\n\n'
            "The encoder is not in this repository. It is searched on your machine by its fingerprint; "
            "`encoder=` gives its name or folder."
        ),
        "How it was made": _table(_facts(model)),
        "Evaluation": _evaluation(model, evaluation),
        "Intended use": "Photos like those it was fitted on, of the classes named above.",
        "Limits": (
            "Every photo gets one of the classes, also a photo that shows none of them"
            + (", unless rejection is requested" if model.rejection is not None else "")
            + ". Accuracy on photos of another origin may be lower; evaluate on your own before you rely on it. Biases "
            "of the encoder and of the photos are biases of the model."
        ),
        "Privacy": _privacy(model),
    }
    parts = [f"{f'## {title}' if title else f'# {markdown(repo_id)}'}\n\n{text}\n" for title, text in sections.items()]
    return "\n".join(parts)


def _facts(model: Classifier) -> dict[str, str]:
    record = model.record
    counts, plan = record.get("images", {}), record.get("validation", {})
    shots = record.get("shots")
    return {
        "encoder": f"{markdown(model.encoder.spec.name)}, fingerprint `{model.encoder.spec.fingerprint[:16]}`",
        "method": type(model.method).__name__,
        "training images": f"{counts.get('train', '–')}{f', {shots} per class' if shots is not None else ''}",
        "validation": f"{plan.get('how', '–')}, {plan.get('images', 0)} images",
        "seed": str(record.get("random_state", "–")),
        "temperature": f"{model.temperature:.4g}",
        "answers 'none of these'": "no" if model.rejection is None else "yes",
    }


def _evaluation(model: Classifier, evaluation: Evaluation | None) -> str:
    accuracy = _accuracy(model, evaluation)
    if accuracy is None:
        return "Not evaluated: there were no labeled images that it had not learned from."
    rows = {
        "data": accuracy["data"],
        "accuracy": f"{percent(accuracy['value'])} %",
        "95 % interval": f"{percent(accuracy['low'])} to {percent(accuracy['high'])} %",
        "chance level": f"{percent(1 / len(model.class_names))} %",
    }
    if evaluation is not None:
        rows["calibration error"] = f"{percent(evaluation.calibration_error)} %"
    zero_shot = (model.record.get("outcome") or {}).get("zero_shot")
    if evaluation is None and zero_shot:
        rows["zero-shot on the same images"] = f"{percent(zero_shot['accuracy'])} %"
    if model.rejection is not None and model.rejection.caught is not None:
        rows["images of a left-out class that are refused, where 5 % of known ones are"] = (
            f"{percent(model.rejection.caught)} %"
        )
    return _table(rows)


def _privacy(model: Classifier) -> str:
    if model.fitted_on:
        return (
            "The card holds truncated content hashes of the training images: anyone who has an image can test whether"
            " it was among them."
        )
    return "The repository holds no training images, no names of their files and no hashes of them."


def _table(rows: dict[str, str]) -> str:
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())])
