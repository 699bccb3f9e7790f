"""modalign adapts a vision-language model to your own images, with a few labels or none.

Importing it loads no torch: every name below is fetched on first use.
"""

from __future__ import annotations

from modalign.core.lazy import lazily
from modalign.methods import ALL_METHODS, location

__version__ = "0.1.0"

_HOME = {
    "adapt": "model.adaptation",
    "compare": "evaluate.comparison.compare",
    "Classifier": "model.classifier",
    "load": "model.classifier",
    "load_encoder": "encoders",
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
