"""modalign adapts a vision-language model to your own images, with a few labels or none.

Importing it loads no torch: every name below is fetched on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from modalign.core.lazy import lazily
from modalign.methods import ALL_METHODS, location

if TYPE_CHECKING:  # what the names below are; those of methods follow from their table
    from modalign.core.encoder_spec import EncoderSpec as EncoderSpec
    from modalign.core.errors import InputError as InputError
    from modalign.core.errors import ModalignError as ModalignError
    from modalign.core.features import ClassText as ClassText
    from modalign.core.features import Features as Features
    from modalign.data.items import Items as Items
    from modalign.data.items import load_items as load_items
    from modalign.data.splits.drawing import few_shot as few_shot
    from modalign.data.splits.split import Split as Split
    from modalign.encoders import load_encoder as load_encoder
    from modalign.encoders.features.store import FeatureStore as FeatureStore
    from modalign.encoders.image_embedder import ImageEmbedder as ImageEmbedder
    from modalign.encoders.registry import register_encoder as register_encoder
    from modalign.evaluate.benchmark.benchmark import run_benchmark as run_benchmark
    from modalign.evaluate.comparison.compare import compare as compare
    from modalign.evaluate.masks.confusion_counts import segmentation_scores as segmentation_scores
    from modalign.export.onnx_folder import export_onnx as export_onnx
    from modalign.methods import register_method as register_method
    from modalign.model.adaptation import adapt as adapt
    from modalign.model.classifier import Classifier as Classifier
    from modalign.model.loading_models import load as load
    from modalign.segmentation.one_call import segment as segment
    from modalign.segmentation.segmented import Segmentation as Segmentation
    from modalign.segmentation.segmenter import Segmenter as Segmenter

__version__ = "0.1.0"

_HOME = {
    "adapt": "model.adaptation",
    "compare": "evaluate.comparison.compare",
    "run_benchmark": "evaluate.benchmark.benchmark",
    "Classifier": "model.classifier",
    "load": "model.loading_models",
    "export_onnx": "export.onnx_folder",
    "load_encoder": "encoders",
    "ImageEmbedder": "encoders.image_embedder",
    "segment": "segmentation.one_call",
    "Segmenter": "segmentation.segmenter",
    "Segmentation": "segmentation.segmented",
    "segmentation_scores": "evaluate.masks.confusion_counts",
    "register_method": "methods",
    "register_encoder": "encoders.registry",
    "FeatureStore": "encoders.features.store",
    "Features": "core.features",
    "ClassText": "core.features",
    "EncoderSpec": "core.encoder_spec",
    "Items": "data.items",
    "load_items": "data.items",
    "Split": "data.splits.split",
    "few_shot": "data.splits.drawing",
    "ModalignError": "core.errors",
    "InputError": "core.errors",
    **{cls: f"methods.{module}" for module, cls in map(location, ALL_METHODS)},
}

__all__ = ["__version__", *_HOME]
__getattr__, __dir__ = lazily(__name__, _HOME, "__version__")
