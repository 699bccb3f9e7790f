"""Tutorial: methods on vectors that were computed elsewhere."""

# %%
# # Vectors of your own
#
# Every method on vectors is a scikit-learn estimator. It takes NumPy arrays or torch tensors, whichever network made
# them. Here the arrays are features of 1,797 handwritten digits by the two encoders that come with the package; a
# single line would load yours instead: `X = np.load("features.npy")`.

import numpy as np

import modalign as ma
from modalign.data.digits import DIGIT_TEMPLATES, load_digits

digits = load_digits()
clip = ma.load_encoder("tiny")
X = clip.embed_images(digits).vectors  # (n, d) image features
prompts = [[template.format(name) for template in DIGIT_TEMPLATES] for name in digits.class_names]
T = clip.embed_texts(prompts).vectors  # (C, number of prompts, d) features of the class names
y = digits.labels
print(X.shape, X.dtype, T.shape)

# %%
# ## Sixteen labels per class
#
# `few_shot` draws the labeled images, a few more for validation, and the test images.

split = ma.few_shot(y, 16, seed=1, test=0.5)
train, validation, test = (np.asarray(part) for part in (split.train, split.validation, split.test))
print(len(train), "training,", len(validation), "validation and", len(test), "test images")

methods = {
    "zero-shot": ma.ZeroShot(),
    "linear probe": ma.LinearProbe(random_state=0),
    "Tip-Adapter": ma.TipAdapter(),
    "GDA": ma.GDA(),
    "CMM": ma.CMM(random_state=0),
}
for name, method in methods.items():
    method.fit(X[train], y[train], text=T, validation=(X[validation], y[validation]))
    print(f"{name:14} {method.score(X[test], y[test]):.3f}")

# %%
# ## Does the method do anything?
#
# `diagnosis_` has accuracies on the validation images: as fitted, of zero-shot, and with one component switched off.

diagnosis = methods["CMM"].diagnosis_
print("steps taken:", diagnosis["step"], "  chosen on:", diagnosis["chosen_on"])
for key in (key for key in diagnosis if key.startswith("validation_accuracy")):
    print(f"{key:36} {diagnosis[key]:.3f}")

# %%
# ## Calibrated probabilities
#
# With validation images `predict_proba` is calibrated. In the figure, a bar at the diagonal means that among answers
# with a probability of 0.8, eight of ten are right.

import matplotlib.pyplot as plt

probabilities = methods["CMM"].predict_proba(X[test])
confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == y[test]
edges = np.linspace(0, 1, 11)
bins = np.clip(np.digitize(confidence, edges) - 1, 0, 9)
filled = [k for k in range(10) if (bins == k).sum() >= 5]
figure, axis = plt.subplots(figsize=(4.2, 3.2))
axis.plot([0, 1], [0, 1], color="0.6", linewidth=1)
axis.bar([edges[k] + 0.05 for k in filled], [right[bins == k].mean() for k in filled], width=0.08)
axis.set_xlabel("probability of the answer")
axis.set_ylabel("share of right answers")

# %%
# ## Labels that are names
#
# Labels may be strings. They are matched with the class texts by name, in any order. −1 or `None` means "no label".

named = ma.ClassText(T, digits.class_names)
words = np.array(digits.class_names)[y]
method = ma.GDA().fit(X[train], words[train], text=named)
print(method.predict(X[test])[:5], words[test][:5])

# %%
# ## Without text
#
# Features of a network that was trained on images alone have no class text. The means of the labeled images replace it.

vision = ma.load_encoder("tiny-vision").embed_images(digits).vectors
for name in ("linear probe", "GDA", "CMM"):
    method = methods[name].fit(vision[train], y[train], validation=(vision[validation], y[validation]))
    print(f"{name:14} {method.score(vision[test], y[test]):.3f}")

# %%
# ## scikit-learn's tools
#
# Cross-validation, pipelines and searches accept the methods like any other estimator.

from sklearn.model_selection import cross_val_score

print(cross_val_score(ma.GDA(), vision[train], y[train], cv=4).round(2))

# %%
# ## All methods at once
#
# `compare` runs every method that applies, over several draws of the labeled images. Here four of them, with 1, 4 and
# 16 labels per class.

features = ma.Features(X, labels=y, class_names=digits.class_names)
result = ma.compare(
    features,
    text=named,
    methods=["zero_shot", "linear_probe", "tip_adapter", "gda"],
    shots=[0, 1, 4, 16],
    ablations=False,
)
for row in result.table:
    interval = f"{row.accuracy.low:.3f} to {row.accuracy.high:.3f}" if row.accuracy.n > 1 else ""
    print(f"{row.method:14} {row.shots!s:>3} labels per class  {row.accuracy.mean:.3f}  {interval}")
