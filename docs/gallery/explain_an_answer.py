"""Gallery: explain an answer."""

# %%
# # Explain an answer
#
# The labeled images that an answer rests on, and a patch map. The map is shown because the model passes the deletion
# test on other images.

import matplotlib.pyplot as plt

import modalign as ma
from modalign.data.digits import load_digits

digits = load_digits()
labeled = digits.select(range(300))
model = ma.adapt(
    labeled, method="tip_adapter", shots=8, templates="a photo of the number {}.", mirror=False, random_state=0
)
test = model.deletion_test(digits.select(range(300, 500)))
print(test.sentence)
found = model.explain(digits.select([610]), check=test, labeled=labeled)
print(found)

# %%
# The image with its map, and the four labeled images that add most to the score.

figure, axes = plt.subplots(1, 6, figsize=(10, 2.2))
axes[0].imshow(found.image)
axes[0].set_title(f"{found.class_name} {found.probability:.2f}", fontsize=9)
axes[1].imshow(found.overlays()[found.class_name])
axes[1].set_title("patch map", fontsize=9)
for axis, near in zip(axes[2:], found.neighbors, strict=False):
    axis.imshow(near.picture)
    axis.set_title(f"{near.class_name} +{near.weight:.1f}", fontsize=9)
for axis in axes:
    axis.axis("off")
