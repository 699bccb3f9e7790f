"""Gallery: audit a folder."""

# %%
# # Audit a folder
#
# Ten wrong labels and a copy are planted among 500 images, and found.

import dataclasses

import matplotlib.pyplot as plt
import numpy as np

from modalign.audit.auditing import audit_images
from modalign.data.digits import load_digits

digits = load_digits().select([*range(500), 0])  # the first image twice
labels = digits.labels.copy()
wrong = np.random.default_rng(0).choice(np.arange(1, 500), 10, replace=False)
labels[wrong] = (labels[wrong] + 1) % 10
items = dataclasses.replace(digits, labels=labels, ids=tuple(f"{i}.png" for i in range(len(digits))))
found = audit_images(items, encoder="tiny", checks=["labels", "copies"], random_state=0)
print(found.counts)
planted = {f"{i}.png" for i in wrong}
errors = found.of("label")
print(f"{sum(e.ids[0] in planted for e in errors)} of {len(planted)} wrong labels are among {len(errors)} findings")

# %%
# The first findings: the label that was given, and the suggested one.

figure, axes = plt.subplots(1, 6, figsize=(9, 2))
for axis, error in zip(axes, errors, strict=False):
    i = items.ids.index(error.ids[0])
    axis.imshow(items.open(i), cmap="gray")
    axis.set_title(f"{items.class_names[labels[i]]} → {error.suggested}", fontsize=9)
    axis.axis("off")
