"""Gallery: few labels."""

# %%
# # Few labels
#
# Accuracy of zero-shot and of a classifier that learns from 1, 2, 4 and 8 labeled images per class, on 600 other
# images.

import matplotlib.pyplot as plt

import modalign as ma
from modalign.data.digits import load_digits

digits = load_digits()
train, test = digits.select(range(600)), digits.select(range(1000, 1600))
options = {"templates": "a photo of the number {}.", "mirror": False, "random_state": 0}
zero_shot = ma.adapt(train, method="zero_shot", **options).evaluate(test)
found = {}
for shots in (1, 2, 4, 8):
    model = ma.adapt(train, method="anchored_gaussian", shots=shots, **options)
    found[shots] = model.evaluate(test).accuracy
print(f"zero-shot: {zero_shot.accuracy}")
for shots, accuracy in found.items():
    print(f"{shots} per class: {accuracy}")

# %%
# Bars are 95 % intervals.

figure, axis = plt.subplots(figsize=(5, 3))
top = [100 * a.top1 for a in found.values()]
ends = [[100 * (a.top1 - a.low) for a in found.values()], [100 * (a.high - a.top1) for a in found.values()]]
axis.errorbar(range(len(found)), top, yerr=ends, marker="o", capsize=3)
axis.axhline(100 * zero_shot.accuracy.top1, linestyle="--", color="gray")
axis.set_xticks(range(len(found)), list(found))
axis.set_xlabel("labeled images per class (dashed: zero-shot)")
axis.set_ylabel("accuracy, %")
