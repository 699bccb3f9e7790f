"""Prompt templates of the papers and benchmarks."""

from __future__ import annotations

DEFAULT_TEMPLATE = "a photo of a {}."
DIGIT_TEMPLATES = ("a photo of the digit {}.",)

IMAGENET_7 = (
    "itap of a {}.",
    "a bad photo of the {}.",
    "a origami {}.",
    "a photo of the large {}.",
    "a {} in a video game.",
    "art of the {}.",
    "a photo of the small {}.",
)
"""The seven that CLIP's authors found to carry most of the ensemble ("itap" = I took a picture)."""

_WITH_BOTH_ARTICLES = (
    "a bad photo of {}", "a sculpture of {}", "a photo of {hard to see}", "a low resolution photo of {}",
    "a rendering of {}", "graffiti of {}", "a cropped photo of {}", "a tattoo of {}", "{embroidered}",
    "a bright photo of {}", "a photo of {clean}", "a photo of {dirty}", "a dark photo of {}", "a drawing of {}",
    "{plastic}", "a photo of {cool}", "a close-up photo of {}", "a black and white photo of {}", "a painting of {}",
    "a pixelated photo of {}", "a jpeg corrupted photo of {}", "a blurry photo of {}", "a photo of {}",
    "a good photo of {}", "{} in a video game", "a doodle of {}", "{origami}", "a sketch of {}", "{toy}",
    "a rendition of {}", "a photo of {large}", "a photo of {nice}", "a photo of {weird}", "{cartoon}", "art of {}",
    "itap of {}", "{plushie}", "a photo of {small}",
)  # fmt: skip
"""{x} stands for "a x NAME" and "the x NAME"."""


def _expand() -> tuple[str, ...]:
    single = ("a photo of many {}.", "a photo of my {}.", "a photo of one {}.", "itap of my {}.")
    both = []
    for pattern in _WITH_BOTH_ARTICLES:
        before, _, rest = pattern.partition("{")
        adjective, _, after = rest.partition("}")
        for article in ("a", "the"):
            both.append(f"{before}{' '.join(filter(None, (article, adjective, '{}')))}{after}.")
    return (*both, *single)


IMAGENET_80 = _expand()
"""CLIP's whole ImageNet ensemble (Radford et al. 2021, section 3.1.4), 38 phrases with "a" and "the" and four alone."""

TEMPLATES: dict[str, tuple[str, ...]] = {
    "default": (DEFAULT_TEMPLATE,),
    "digits": DIGIT_TEMPLATES,
    "imagenet": IMAGENET_7,
    "imagenet_80": IMAGENET_80,
    "imagenetv2": IMAGENET_7,
    "imagenet_sketch": IMAGENET_7,
    "imagenet_a": IMAGENET_7,
    "imagenet_r": IMAGENET_7,
    "caltech101": (DEFAULT_TEMPLATE,),
    "oxford_pets": ("a photo of a {}, a type of pet.",),
    "stanford_cars": (DEFAULT_TEMPLATE,),
    "oxford_flowers": ("a photo of a {}, a type of flower.",),
    "food101": ("a photo of {}, a type of food.",),
    "fgvc_aircraft": ("a photo of a {}, a type of aircraft.",),
    "sun397": (DEFAULT_TEMPLATE,),
    "dtd": ("{} texture.",),
    "eurosat": ("a centered satellite photo of {}.",),
    "ucf101": ("a photo of a person doing {}.",),
    "cifar10": (DEFAULT_TEMPLATE,),
    "cifar100": (DEFAULT_TEMPLATE,),
    "cub": ("a photo of a {}, a type of bird.",),
    "resisc45": ("a centered satellite photo of {}.",),
    "aid": ("a centered satellite photo of {}.",),
}
"""Templates by data set: the hand-crafted ones of CoOp, Tip-Adapter and CMM, and CLIP's own ensembles."""
