"""Gallery: segment a picture."""

# %%
# # Segment a picture
#
# A class for each pixel from names alone, then with a map that GPUA learns from twelve other pictures without masks.
# The pictures are mosaics of textures, since the patches of `tiny` tell textures apart
# but not objects; see `tiny-scenes`.
# Labels drawn at random have a mean IoU of about 0.09; the [results](../results/segmentation.md) have more pictures.

import warnings

import matplotlib.pyplot as plt

import modalign as ma
from modalign.data.mosaics import SENTENCES, SIDE, texture_scenes

warnings.simplefilter("ignore")  # that the encoder is small
scenes, others = texture_scenes(0, 3), texture_scenes(1000, 12)
segmenter = ma.Segmenter("tiny", scenes.names, templates=SENTENCES, short_side=SIDE, stride=8)
found = {"names alone": [result.labels for result in segmenter.segment(scenes.pictures)]}
segmenter.fit_map(others.pictures, vfm=ma.load_encoder("tiny-vision"), stride=16)
found["with the map"] = [result.labels for result in segmenter.segment(scenes.pictures)]
for name, labels in found.items():
    scores = ma.segmentation_scores(labels, list(scenes.masks), n_classes=len(scenes.names))
    print(f"{name:13} mean IoU {scores.miou:.2f}")

# %%
# Pictures, what was found, and the true masks.

columns = {"picture": scenes.pictures, **found, "truth": scenes.masks}
figure, axes = plt.subplots(3, 4, figsize=(7, 5.4))
for j, (title, pictures) in enumerate(columns.items()):
    axes[0, j].set_title(title)
    for axis, picture in zip(axes[:, j], pictures, strict=True):
        axis.imshow(picture, cmap="Set2", vmin=0, vmax=7, interpolation="nearest")
        axis.axis("off")
