"""Tutorial: a folder of images without any label."""

# %%
# # Without labels
#
# A folder of images, a list of class names, and no label: the classes are assigned to all images together. To make the
# task realistic, the class sizes differ, one class has no image at all, and the method does not get this information.

from pathlib import Path

import numpy as np

from modalign.data.digits import load_digits

digits = load_digits()
wanted = dict(zip(digits.class_names, (170, 150, 120, 100, 80, 60, 40, 30, 20, 0), strict=True))
truth = {}
Path("scans").mkdir()
for i in np.random.default_rng(0).permutation(len(digits)):
    name = digits.class_names[digits.labels[i]]
    if wanted[name]:
        wanted[name] -= 1
        file = f"{len(truth):04d}.png"
        Path("scans", file).write_bytes(digits.blobs[i].read())
        truth[file] = name
print(len(truth), "images;", len(set(truth.values())), "of", len(digits.class_names), "classes occur")

# %%
# ## Zero-shot
#
# The starting point: each image alone gets the class whose text is most similar.

import modalign as ma

settings = {
    "classes": list(digits.class_names),
    "unlabeled": True,
    "templates": "a photo of the number {}.",
    "mirror": False,
}


def accuracy(answers):
    return np.mean([truth[name] == answer for name, answer in zip(answers.ids, answers.names, strict=True)])


zero_shot = ma.adapt("scans", encoder="tiny", method="zero_shot", **settings)
print(f"{accuracy(zero_shot.predict('scans')):.3f}")

# %%
# ## All images together
#
# By default an image gets the class on which two methods agree, and the class of zero-shot where they differ. With two
# encoders, one of them trained on images alone, GPUA groups the images by the first and names the groups by the second.
# The accuracy here uses the labels that were put aside; `adapt` did not get them.

default = ma.adapt("scans", encoder="tiny", **settings)
gpua = ma.adapt("scans", encoder="tiny-vision+tiny", method="gpua", random_state=0, **settings)
print(f"default              {accuracy(default.predict('scans')):.3f}")
print(f"GPUA, two encoders   {accuracy(gpua.predict('scans')):.3f}")

# %%
# These are *transductive* answers: they were found for these images together, and the model keeps them. A new image is
# classified by the fitted model alone.

answers = gpua.predict("scans")
print(answers.transductive.all())

# %%
# ## How many images per class?
#
# The estimated sizes beside the true ones. The method gets neither the true sizes nor the name of the absent class.

import matplotlib.pyplot as plt

names = list(gpua.class_names)
estimated = gpua.method.class_sizes_
true = [list(truth.values()).count(name) for name in names]
figure, axis = plt.subplots(figsize=(7, 2.8))
place = np.arange(len(names))
axis.bar(place - 0.2, true, width=0.4, label="true", color="0.7")
axis.bar(place + 0.2, estimated, width=0.4, label="estimated")
axis.set_xticks(place, names)
axis.set_ylabel("images")
axis.legend(frameon=False)
print({name: round(float(size), 1) for name, size in zip(names, estimated, strict=True)})

# %%
# ## The record without labels
#
# Nothing can be measured without a label. The record therefore holds no accuracy. It holds the share of images whose
# class is that of zero-shot, and notes.

outcome = gpua.record["outcome"]
print(f"{outcome['agreement']['accuracy']:.3f} of the answers are those of zero-shot")
for note in outcome["notes"]:
    print("note:", note)

# %%
# Label a few images, and the same folder can be tested: `modalign evaluate` takes a CSV file with a column of names.
