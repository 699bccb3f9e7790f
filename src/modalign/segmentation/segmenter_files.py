"""Segmenters as files: a JSON card, and the text vectors and the map as safetensors."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from modalign.core.card_names import SEGMENTER
from modalign.core.encoder_spec import EncoderSpec
from modalign.core.errors import InputError
from modalign.core.files import CardFormat, local_path
from modalign.core.record import plain, versions
from modalign.encoders import find_encoder, load_encoder
from modalign.encoders.base import Encoder
from modalign.segmentation.calibrated import Calibration
from modalign.segmentation.class_words import ClassWords, read_class_words
from modalign.segmentation.patch_features import PatchFeatures
from modalign.segmentation.patch_map import KINDS, PatchMap
from modalign.segmentation.photos import open_encoder
from modalign.segmentation.pixel_labels import Decision
from modalign.segmentation.segmenter import Segmenter
from modalign.segmentation.windows import Sliding

FORMAT = CardFormat(
    family="modalign-segmenter",
    version=2,
    what="a segmenter",
    file=SEGMENTER,
    entries={
        "encoder": dict,
        "guide": (dict, type(None)),
        "features": str,
        "calibration": dict,
        "sliding": dict,
        "decision": dict,
        "classes": list,
        "names_sha256": str,
        "map": (dict, type(None)),
        "versions": dict,
    },
    tensors="weights",
    labels=(("encoder", "name"), ("guide", "name"), ("map", "vfm", "name")),
    advice=" Copy or save the segmenter again.",
)


def save_segmenter(segmenter: Segmenter, folder: str | Path) -> Path:
    """Write a segmenter into ``folder``; one that is there is replaced, any other non-empty folder refused."""
    folder = local_path(folder)
    FORMAT.check_folder(folder)
    patches, found = segmenter.patches, segmenter.map
    tensors = {"text": segmenter.text.cpu().numpy()}
    entry = None
    if found is not None:
        tensors["map"] = found.weight.cpu().half().numpy()
        tensors["fitted_on"] = segmenter.fitted_on.view(np.int64)
        vfm = None if segmenter.map_vfm is None else asdict(segmenter.map_vfm.spec)
        entry = {"kind": found.kind, "record": plain(found.record), "vfm": vfm}
    entries = {
        "encoder": asdict(segmenter.encoder.spec),
        "guide": None if patches.guide is None else asdict(patches.guide.spec),
        "features": patches.features,
        "calibration": asdict(patches.calibration),
        "sliding": asdict(segmenter.sliding),
        "decision": asdict(segmenter.decision),
        "classes": [list(words) for words in segmenter.words.words],
        "names_sha256": segmenter.words.sha256,
        "map": entry,
        "versions": versions(),
    }
    FORMAT.write(folder, entries, save_tensors(tensors))
    return folder


def load_segmenter(folder: str | Path, *, encoder: str | Path | Encoder | None = None) -> Segmenter:
    """Read what :meth:`~modalign.Segmenter.save` wrote.

    Parameters
    ----------
    folder : str or Path
        Folder of the segmenter.
    encoder : str, Path, Encoder or None, default=None
        The encoder with text, if it is not to be searched on this machine; others are always searched.

    Raises
    ------
    InputError
        The files are damaged or do not fit together.
    EncoderMismatchError
        Another encoder than that of the segmenter.
    """
    folder = local_path(folder)
    card = FORMAT.read(folder)
    data = FORMAT.read_tensors(folder, card)
    try:
        return _restored(card, load_tensors(data), encoder)
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        reason = f"{type(error).__name__} {' '.join(str(error).split())[:100]}"
        raise InputError(f"The segmenter in '{folder}' cannot be used: {reason}.{FORMAT.advice}") from None


def _restored(card: Mapping[str, Any], tensors: Mapping[str, np.ndarray], encoder: Any) -> Segmenter:
    spec = EncoderSpec.read(card["encoder"])
    opened = _found(spec) if encoder is None else _given(spec, encoder)
    guide = None if card["guide"] is None else _found(EncoderSpec.read(card["guide"]))
    patches = PatchFeatures(opened, card["features"], Calibration(**card["calibration"]), guide)
    background = bool(card["decision"]["background"])
    rows = [list(row) for row in card["classes"]]
    words = read_class_words(rows[background:], rows[0] if background else ())
    text = torch.from_numpy(tensors["text"])
    if text.shape != (len(words.all_words), spec.dim) or not bool(text.isfinite().all()):
        raise InputError(f"The text vectors of the segmenter do not fit its names.{FORMAT.advice}")
    segmenter = Segmenter.__new__(Segmenter)
    segmenter._set(
        patches,
        Sliding(**card["sliding"]),
        Decision(**card["decision"]),
        ClassWords(words.words, background, card["names_sha256"]),
        text,
        opened.batch_size,
    )
    if card["map"] is not None:
        _restore_map(segmenter, card["map"], tensors)
    return segmenter


def _restore_map(segmenter: Segmenter, entry: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> None:
    weight = torch.from_numpy(tensors["map"]).float()
    vfm = None if entry["vfm"] is None else EncoderSpec.read(entry["vfm"])
    d = segmenter.encoder.spec.dim
    columns = {"clip": d, "vfm": vfm.dim if vfm else 0, "vfm+clip": (vfm.dim if vfm else 0) + d}
    if entry["kind"] not in KINDS or weight.shape != (columns[entry["kind"]], d) or not bool(weight.isfinite().all()):
        raise InputError(f"The map of the segmenter does not fit its encoders.{FORMAT.advice}")
    segmenter.map = PatchMap(weight, entry["kind"], dict(entry["record"]))
    segmenter.map_vfm = None if vfm is None else _found(vfm)
    segmenter.fitted_on = np.ascontiguousarray(tensors["fitted_on"]).view(np.uint64)


def _found(spec: EncoderSpec) -> Encoder:
    """The encoder of this fingerprint, from this machine alone."""
    return open_encoder(find_encoder(spec), "auto")  # type: ignore[arg-type]  # refuses encoders that are joined


def _given(spec: EncoderSpec, encoder: str | os.PathLike[str] | Encoder) -> Encoder:
    opened = load_encoder(encoder, dtype=spec.dtype) if isinstance(encoder, (str, os.PathLike)) else encoder
    spec.require(opened.spec)
    return open_encoder(opened, "auto")  # type: ignore[arg-type]  # refuses encoders that are joined
