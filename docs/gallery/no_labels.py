"""Gallery: no labels."""

# %%
# # No labels
#
# Class names and 600 images without labels. GPUA maps the images to the class text; zero-shot compares each image with
# it as it is.

import matplotlib.pyplot as plt

import modalign as ma
from modalign.data.digits import load_digits

digits = load_digits()
images, test = digits.select(range(600)).unlabeled(), digits.select(range(1000, 1600))
models = {
    name: ma.adapt(images, method=name, templates="a photo of the number {}.", mirror=False, random_state=0)
    for name in ("zero_shot", "gpua")
}
results = {name: model.evaluate(test) for name, model in models.items()}
for name, result in results.items():
    print(f"{name:10} {result.accuracy}")

# %%
# The confusion matrix of each: rows are true classes, columns answers.

figure, axes = plt.subplots(1, 2, figsize=(8, 4))
for axis, (name, result) in zip(axes, results.items(), strict=True):
    axis.imshow(result.confusion, cmap="Blues")
    axis.set_title(name)
    axis.set_xticks(range(10), result.class_names, rotation=60)
    axis.set_yticks(range(10), result.class_names)
