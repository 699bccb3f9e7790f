"""Gallery: export a model."""

# %%
# # Export a model
#
# One ONNX graph from pixels to calibrated probabilities. The export is written only if it agrees with the model. Its
# own program, which needs no torch, then runs it.

import sys
from pathlib import Path

import matplotlib.pyplot as plt

import modalign as ma
from modalign.data.digits import load_digits

digits = load_digits()
train, test = digits.select(range(200)), digits.select(range(300, 400))
model = ma.adapt(train, method="lfa", templates="a photo of the number {}.", mirror=False, random_state=0)
export = ma.export_onnx(model, "digits-onnx", check=test)
print(sorted(path.name for path in Path("digits-onnx").iterdir()))
parity = export.parity
print(f"largest difference of a probability {parity.max_difference:.1e}, decisions that differ {parity.decisions}")

# %%
# Probabilities of the exported program against those of the model: all lie on the diagonal.

sys.path.insert(0, "digits-onnx")
from predict import Model

pictures = [test.open(i) for i in range(len(test))]
exported = Model("digits-onnx/model.onnx")(pictures)["probabilities"]
figure, axis = plt.subplots(figsize=(3.2, 3.2))
axis.plot([0, 1], [0, 1], color="lightgray")
axis.scatter(model.predict_proba(pictures).max(axis=1), exported.max(axis=1), s=12)
axis.set_xlabel("model")
axis.set_ylabel("exported program")
