"""The small few-shot problem of the contract, and settings that make every method quick; shared by these tests."""

from __future__ import annotations

from modalign.methods import method_class
from modalign.methods.contract.vectors import VectorMethod
from modalign.testing.subject import FewShot, needs
from modalign.testing.subject import few_shot_problem as few_shot

__all__ = ["FewShot", "few_shot", "needs", "quick"]

QUICK = {  # by parameter, so that a new method with such a parameter is quick as well
    "steps": 30,
    "C": 10.0,
    "candidates": ("anchored_gaussian", "tip_adapter"),
}


def quick(name: str, **settings: object) -> VectorMethod:
    """The method of that name with a fixed seed, made quick."""
    method = method_class(name)()
    known = method.get_params()
    method.set_params(**{k: v for k, v in {"random_state": 0, **QUICK}.items() if k in known})
    return method.set_params(**settings)
