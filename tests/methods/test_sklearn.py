"""scikit-learn's own checks on every method that discovery finds."""

from __future__ import annotations

from problems import quick
from sklearn.utils.estimator_checks import parametrize_with_checks

from modalign.methods import METHODS, method_class

ESTIMATORS = [
    quick(name) for name in METHODS if not (method_class(name).needs_text or method_class(name).needs_clip_features)
]


def expected(estimator: object) -> dict[str, str]:
    return {"check_classifiers_classes": "it uses -1 as the name of a class; here -1 marks an unlabeled image"}


@parametrize_with_checks(ESTIMATORS, expected_failed_checks=expected)
def test_scikit_learn_checks(estimator, check):
    check(estimator)
