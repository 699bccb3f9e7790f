"""Tutorial: from a folder of photos to a classifier."""

# %%
# # Own photos
#
# From a folder of images to a classifier that is saved, tested and used. Everything here runs offline in less than a
# minute. The images are 1,797 real handwritten digits, and the encoder is `tiny`, which comes with the package. It was
# not trained on these digits. With photos of your own, only the folder and the name of the encoder change.

# %%
# ## A folder
#
# One folder per class, with the name of the class. Here 30 images per class go into `train` and 20 into `test`; every
# command recognizes these names.

from collections import Counter
from pathlib import Path

import numpy as np

from modalign.data.digits import load_digits

digits = load_digits()
copied = Counter()
for i in np.random.default_rng(0).permutation(len(digits)):
    name = digits.class_names[digits.labels[i]]
    if copied[name] < 50:
        part = "train" if copied[name] < 30 else "test"
        file = Path("photos", part, name, f"{copied[name]:02d}.png")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(digits.blobs[i].read())
        copied[name] += 1

print(sorted(str(path) for path in Path("photos").glob("*/*"))[:3])
print(sum(1 for _ in Path("photos").rglob("*.png")), "images")

# %%
# ## Adapt
#
# `adapt` draws 16 labeled images per class, encodes them, tries several methods on predictions of held-out images and
# keeps the best combination.

import modalign as ma

model = ma.adapt(
    "photos", encoder="tiny", shots=16, templates="a photo of the number {}.", mirror=False, random_state=1
)
print(model)

# %%
# The record holds what the fit achieved on images that the predicting model was not fitted on, beside zero-shot on the
# same images and chance.

outcome = model.record["outcome"]
for name in ("held_out", "zero_shot"):
    found = outcome[name]
    print(f"{name:10} {found['accuracy']:.3f}  (95 % interval {found['low']:.3f} to {found['high']:.3f})")
print(f"chance     {outcome['chance']:.3f}")

# %%
# ## Test
#
# `evaluate` uses the images in `test` only. Images that were fitted would be recognized and left out.

result = model.evaluate("photos")
print(result)

# %%
# ## Predict
#
# A path, a PIL image, a folder or an archive: each answer has a name and a calibrated probability.

answers = model.predict("photos/test/three")
print(answers[0])
print(Counter(answers.names))

# %%
# The figure shows the eight least certain answers, which a person should check first: the answer and its probability
# above each image, the true class below.

import matplotlib.pyplot as plt
from PIL import Image

uncertain = model.predict("photos/test").sorted_by("uncertain")
figure, axes = plt.subplots(1, 8, figsize=(10, 1.9))
for axis, answer in zip(axes, uncertain, strict=False):
    axis.imshow(Image.open(Path("photos/test", answer.id)), cmap="gray")
    axis.set_title(f"{answer.name} {answer.probability:.2f}", fontsize=9)
    axis.set_xlabel(Path(answer.id).parent.name, fontsize=9)
    axis.set_xticks([])
    axis.set_yticks([])

# %%
# ## None of these
#
# An image of something else should get no class. `reject=0.05` rejects images that are less certain than nearly all
# held-out ones: on average 5 % of the images that do show one of the classes, and most of those that do not. Here the
# others are three checkerboards.

rows, columns = np.indices((32, 32))
boards = [Image.fromarray(((rows // size + columns // size) % 2 * 255).astype("uint8")) for size in (2, 4, 8)]
print(model.predict(boards, reject=0.05).names)
known = model.predict("photos/test", reject=0.05)
print(f"{known.rejected.mean():.1%} of the digits in test are rejected")

# %%
# ## Save and load
#
# A model is a folder of two files without code. Loading needs no network.
#
# On the command line the same is `modalign fit photos --out digits-model --shots 16`, `modalign evaluate`, and
# `modalign predict`; the [guide](../guide/index.md) has the options.

model.save("digits-model")
print(sorted(path.name for path in Path("digits-model").iterdir()))
again = ma.load("digits-model")
print(again.predict("photos/test/three").names == answers.names)
