"""Classifiers of images that may show several classes."""

from modalign.model.multi_label.multi_label_classifier import MultiLabelClassifier
from modalign.model.multi_label.multi_label_fit import adapt_multi_label

__all__ = ["MultiLabelClassifier", "adapt_multi_label"]
