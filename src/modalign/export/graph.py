"""A classifier as one graph: uint8 pixels → scaling, tower, head, temperature → calibrated probabilities."""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import replace
from io import StringIO
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from modalign.core.errors import InputError
from modalign.encoders.base import Encoder
from modalign.encoders.joined import JoinedEncoder
from modalign.methods.contract.tower import TowerMethod
from modalign.model.scoring import require_clip

if TYPE_CHECKING:
    from modalign.encoders.preprocess import Preprocessing
    from modalign.linalg.rejection import Rejection
    from modalign.model.classifier import Classifier

MOST = 16
"""Rows of a batch for which the graph is recorded; fewer than any block that a method works in, so that none is cut."""


class Recorded(nn.Module):
    """Module that is exported: a classifier in float32 on the CPU.

    Parameters
    ----------
    classifier : Classifier
        As :func:`in_float32` makes it.

    Attributes
    ----------
    steps : list of Preprocessing
        What makes each input from a picture; parts of a joined encoder that prepare pictures alike share one.
    outputs : list of str
        ``probabilities``, ``logits`` and, if there is a rejection, ``p_values``.
    """

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        encoder, method = classifier.encoder, classifier.method
        self.parts = parts_of(encoder)
        self.steps = list(dict.fromkeys(part.preprocessing for part in self.parts))
        self.networks = nn.ModuleList([part.model for part in self.parts])  # registered: their weights are constants
        self.temperature, self.rejection = classifier.temperature, classifier.rejection
        self.outputs = ["probabilities", "logits", *(["p_values"] if self.rejection else [])]
        self._from_pixels: Callable[[Tensor], Tensor] | None = None
        if isinstance(method, TowerMethod):
            self.learner, self.classes = method._bind(require_clip(encoder))
            self._from_pixels = lambda pixels: self.learner.scores(pixels, self.classes).float()
        else:
            self.head = method.head()

    def forward(self, *pixels: Tensor) -> tuple[Tensor, ...]:
        """The outputs, (n, C), (n, C) and (n,), of pixels (n, H, W, 3), uint8, one tensor per step."""
        ready = [scaled(step, batch) for step, batch in zip(self.steps, pixels, strict=True)]
        if self._from_pixels is not None:
            scores = self._from_pixels(ready[0])
        else:
            inputs = (ready[self.steps.index(part.preprocessing)] for part in self.parts)
            vectors = [
                part.encode_inputs({"pixel_values": own})[0] for part, own in zip(self.parts, inputs, strict=True)
            ]
            scores = self.head(torch.cat(vectors, dim=1) / len(vectors) ** 0.5 if len(vectors) > 1 else vectors[0])
        logits = scores / self.temperature
        probabilities = logits.softmax(dim=1)
        if self.rejection is None:
            return probabilities, logits
        return probabilities, logits, p_values_by_counts(self.rejection, probabilities, logits)


def p_values_by_counts(rejection: Rejection, probabilities: Tensor, logits: Tensor) -> Tensor:
    """:meth:`~modalign.linalg.rejection.Rejection.p_values` by comparisons, since ONNX has no search."""
    first, second = logits.topk(2, dim=1).values.unbind(dim=1)
    sure = {"probability": probabilities.amax(dim=1), "margin": first - second, "score": first}[rejection.kind]
    reference = torch.tensor(rejection.reference, dtype=torch.float64)
    below = (reference <= sure.double()[:, None]).sum(dim=1)
    return (1 + below).float() / (len(reference) + 1)


def scaled(step: Preprocessing, pixels: Tensor) -> Tensor:
    """uint8 (n, H, W, 3) → float32 (n, 3, H, W) as the network takes them."""
    scale, shift = (values[:, None, None] for values in step.affine(pixels.device))
    return torch.addcmul(shift, pixels.permute(0, 3, 1, 2).float(), scale)


def parts_of(encoder: Encoder | JoinedEncoder) -> tuple[Encoder, ...]:
    """The networks of an encoder, one or several."""
    return encoder.parts if isinstance(encoder, JoinedEncoder) else (encoder,)


def side_of(step: Preprocessing) -> tuple[int, int]:
    """(height, width) of prepared pictures."""
    return step.crop or step.size


def in_float32(classifier: Classifier) -> Classifier:
    """The same classifier with its networks in float32 on the CPU, where the graph is recorded and compared."""
    encoder = classifier.encoder
    own = [_on_cpu(part.cast(torch.float32)) for part in parts_of(encoder)]
    plain: Encoder | JoinedEncoder = own[0] if isinstance(encoder, Encoder) else JoinedEncoder(own)
    method = copy.copy(classifier.method)
    if method.encoder_ is not None:
        method.encoder_ = plain.spec
    if isinstance(method, TowerMethod):
        method._bound = None
    return replace(classifier, encoder=plain, method=method)


def _on_cpu(encoder: Encoder) -> Encoder:
    if encoder.device.type == "cpu":
        return encoder
    other = copy.copy(encoder)
    other.model, other.device = copy.deepcopy(encoder.model).cpu(), torch.device("cpu")
    return other


def record(classifier: Classifier) -> tuple[Any, list[Preprocessing]]:
    """The graph as an ``onnx.ModelProto``, and what makes its inputs.

    Raises
    ------
    InputError
        A step of the method or the network has no counterpart in ONNX.
    """
    graph = Recorded(classifier).eval()
    example = tuple(torch.zeros(2, *side_of(step), 3, dtype=torch.uint8) for step in graph.steps)
    rows = torch.export.Dim("n", min=1, max=MOST)
    try:
        with quietly(), torch.no_grad():
            program = torch.export.export(graph, example, dynamic_shapes=(({0: rows},) * len(example),), strict=False)
            made = torch.onnx.export(
                program,
                dynamo=True,
                input_names=input_names(graph.steps),
                output_names=graph.outputs,
                verbose=False,
            )
    except Exception as error:  # every part of the exporter raises its own
        name, reason = type(classifier.method).__name__, " ".join(str(error).split())[:200]
        raise InputError(
            f"Expected a model that ONNX can express, got {name} in '{classifier.encoder.name}': {reason}"
        ) from error
    assert made is not None
    return _without_notes(made.model_proto), graph.steps


def _without_notes(proto: Any) -> Any:
    """The graph without the notes of the exporter, which hold names and lines of files of this machine."""
    graph = proto.graph
    for entry in (graph, *graph.node, *graph.initializer, *graph.value_info, *graph.input, *graph.output):
        entry.ClearField("metadata_props")
        entry.ClearField("doc_string")
    return proto


def input_names(steps: list[Preprocessing]) -> list[str]:
    """``pixels``, ``pixels_2``, …"""
    return ["pixels" if i == 0 else f"pixels_{i + 1}" for i in range(len(steps))]


@contextmanager
def quietly() -> Iterator[None]:
    """Suppress messages of the exporter, which concern its internals; its errors print the whole graph."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stderr(StringIO()), redirect_stdout(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
