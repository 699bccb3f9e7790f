"""Gallery: add a class."""

# %%
# # Add a class
#
# A classifier of nine digits is given the tenth by its name and five images, without another fit.

import matplotlib.pyplot as plt
import numpy as np

import modalign as ma
from modalign.data.digits import load_digits

digits = load_digits()
nine = digits.class_names.index("nine")
known = np.flatnonzero(digits.labels != nine)
new = np.flatnonzero(digits.labels == nine)
names = [name for name in digits.class_names if name != "nine"]
pictures = [digits.open(i) for i in known[:300]]
labels = [digits.class_names[k] for k in digits.labels[known[:300]]]
model = ma.adapt(
    ma.load_items(pictures, labels=labels),
    method="lfa",
    shots=8,
    templates="a photo of the number {}.",
    mirror=False,
    random_state=0,
)
more = model.add_class("nine", digits.select(new[:5]))
print(len(model.class_names), "→", len(more.class_names), "classes")

# %%
# The share of right answers on images that were not fitted: of the old classes before and after, and of the new one.
# What a class costs the others depends on the method and the encoder; the [results](../results/add_class.md) have more.

old_test, new_test = digits.select(known[300:900]), digits.select(new[5:])


def share(classifier, images):
    answers = classifier.predict(images).names
    return np.mean([name == digits.class_names[k] for name, k in zip(answers, images.labels, strict=True)])


shares = {
    "old classes, before": share(model, old_test),
    "old classes, after": share(more, old_test),
    "new class, after": share(more, new_test),
}
for name, value in shares.items():
    print(f"{name:20} {value:.3f}")
figure, axis = plt.subplots(figsize=(6, 1.6))
axis.barh(list(shares), [100 * value for value in shares.values()])
axis.invert_yaxis()
axis.set_xlim(0, 100)
axis.set_xlabel("right answers, %")
