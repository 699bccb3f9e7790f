"""FAIR: Algorithm 1 against a literal transcription in loops, its laws, and self-training on real digits."""

from __future__ import annotations

import copy
import json
import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from self_training import broken_off_and_resumed, saved_and_loaded
from torch import Tensor
from torch.nn.functional import cosine_similarity
from transformers import CLIPConfig, CLIPModel

import modalign as ma
from modalign.core.errors import InputError
from modalign.core.features import UNLABELED
from modalign.data.digits import DIGIT_TEMPLATES, load_digits
from modalign.data.items import Items
from modalign.encoders.preprocess import Preprocessing
from modalign.encoders.towers.vision_tower import VisionTower
from modalign.linalg.divergence import divergence_from_uniform
from modalign.methods.contract.tower import Towers
from modalign.methods.fair.fair import FAIR
from modalign.methods.fair.fair_score import align, crop_weights
from modalign.methods.fair.fair_training import SelfTraining
from modalign.model.persistence import load_model, save_model
from modalign.tune.crops import CropBatch

K, N, B, SIZE = 5, 6, 4, 32
QUICK = {"crops": 4, "keep": 2, "augmentation": "randaugment", "epochs": 2, "batch_size": 16, "random_state": 0}


@pytest.fixture(scope="module")
def model() -> CLIPModel:
    torch.manual_seed(0)
    text = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision = {"hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 2}
    vision |= {"image_size": SIZE, "patch_size": 8}
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=12)).eval()
    for parameter in model.parameters():  # away from the ones and zeros that layer norms start at
        parameter.data += 0.3 * torch.randn_like(parameter)
    return model


def towers_of(model: CLIPModel, text: Tensor, logit_scale: float) -> Towers:
    names = tuple("abcdefghij"[: len(text)])
    return Towers(None, VisionTower.of(model), names, tuple((n,) for n in names), text, logit_scale)


def learner_of(model: CLIPModel, **settings) -> SelfTraining:
    text = torch.randn(K, 3, model.config.projection_dim, generator=torch.Generator().manual_seed(1))
    learner = SelfTraining(towers_of(model, text, 20.0), FAIR(**{"crops": N, "keep": 3} | settings))
    learner.begin(range(9))
    return learner


def moved_anchors(learner: SelfTraining) -> Tensor:
    """Anchors as some steps leave them, for a gradient in float64."""
    with torch.no_grad():
        learner.anchors += 0.3 * torch.randn(learner.anchors.shape, generator=torch.Generator().manual_seed(3))
    return learner.anchors.detach().double().requires_grad_()


def batch_of(epoch: int = 0) -> CropBatch:
    draws = torch.Generator().manual_seed(2)
    pixels = torch.randint(0, 256, (B, N + 2, 3, SIZE, SIZE), generator=draws, dtype=torch.uint8)
    preprocessing = Preprocessing("short", (SIZE, SIZE), (SIZE, SIZE), 3, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
    encoder = SimpleNamespace(preprocessing=preprocessing, device=torch.device("cpu"), dtype=torch.float32)
    views = tuple(preprocessing.normalize(pixels[:, v]) for v in (N, N + 1))
    labels = torch.full((B,), UNLABELED)
    return CropBatch(views, labels, torch.tensor([3, 0, 7, 5]), epoch, pixels[:, :N], encoder)


def algorithm_1(model: CLIPModel, Z: Tensor, Z0: Tensor, batch: CropBatch, **settings):
    """The paper's algorithm box, image by image, crop by crop, class by class; in float64 on transformers' network."""
    view, alignment = settings.get("view", "crops"), settings.get("alignment", "learned")
    score, weighting = settings.get("score_scale", "prob"), settings.get("weighting", "margin")

    def encode(x):
        cls = model.vision_model(pixel_values=x[None]).pooler_output[0]
        return model.visual_projection(cls), cls

    def sim(a, b):
        return cosine_similarity(a, b, dim=0)

    anchors = Z0 if alignment == "fixed" else Z
    losses, predictions, scores, gammas, weights = [], [], [], [], []
    for x in range(B):
        with torch.no_grad():
            f, f_cls = encode(batch.views[0][x].double())
            if view == "global":
                psi = [sim(f, anchors[j]) for j in range(K)]
                w, kept = [torch.ones(())], [0]
            else:
                parts = [encode(batch.encoder.preprocessing.normalize(c).double()) for c in batch.crops[x]]
                if settings.get("crop_weights") == "softmax":
                    w = [math.exp(sim(f, part[0])) for part in parts]
                else:
                    w = [sim(f_cls, part[1]) for part in parts]
                total = sum(w)
                w = [value / total for value in w]
                kept = sorted(range(N), key=lambda i: -w[i])[: settings.get("keep", 3)]
                psi = [sum(w[i] * sim(parts[i][0], anchors[j]) for i in kept) for j in range(K)]
            y = max(range(K), key=lambda j: psi[j])
            if score == "prob":
                mass = sum(w[i] for i in kept)
                S = torch.tensor([20.0 * p / mass for p in psi], dtype=torch.float64).softmax(0).tolist()
            else:
                S = [float(p) * (20.0 if score == "logit" else 1.0) for p in psi]
            first, second = sorted(S)[-1], sorted(S)[-2]
            gamma = {"margin": first * abs(first - second), "top": first, "none": 1.0}[weighting]
        p = torch.stack([20.0 * sim(encode(batch.views[1][x].double())[0], Z[j]) for j in range(K)]).softmax(0)
        losses.append(-gamma * p[y].log())
        predictions.append(p)
        scores.append(torch.stack([torch.as_tensor(value) for value in psi]))
        gammas.append(gamma)
        weights.append([float(value) for value in w])
    mean = sum(predictions) / B
    q = settings.get("q", [1 / K] * K)
    loss = sum(losses) / B - sum(q[j] * mean[j].log() for j in range(K))
    return loss, torch.stack(scores), torch.tensor(gammas), torch.tensor(weights)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"score_scale": "raw"},
        {"score_scale": "logit"},
        {"weighting": "top"},
        {"weighting": "none"},
        {"alignment": "fixed"},
        {"crop_weights": "softmax"},
        {"view": "global"},
        {"keep": None},
    ],
    ids=str,
)
def test_it_is_algorithm_1(model: CLIPModel, settings: dict) -> None:
    exact, batch = copy.deepcopy(model).double(), batch_of()
    learner = learner_of(model, **settings)
    start = learner.anchors.detach().double()
    Z = moved_anchors(learner)
    loss, scores, gammas, _ = algorithm_1(exact, Z, start, batch, **settings)
    found = learner.loss(batch)
    torch.testing.assert_close(found["loss"].double(), loss, rtol=1e-5, atol=0)
    torch.testing.assert_close(learner.alignment(batch, learner.vision()).scores.double(), scores, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(learner.labels[batch.indices], scores.argmax(1))
    torch.testing.assert_close(learner.gammas[batch.indices], gammas.float(), rtol=1e-5, atol=1e-6)

    loss.backward()
    found["loss"].backward()
    pairs = [(learner.anchors.grad, Z.grad)]
    norms = dict(exact.vision_model.named_parameters())
    names = {"pre": "pre_layrnorm", "post": "post_layernorm"}
    for layer in (0, 1):
        names |= {f"{layer}_norm{k}": f"encoder.layers.{layer}.layer_norm{k}" for k in (1, 2)}
    for ours, theirs in names.items():
        pairs += [(learner.tuned[f"{ours}_{part}"].grad, norms[f"{theirs}.{part}"].grad) for part in ("weight", "bias")]
    assert len(pairs) == 1 + len(learner.tuned)
    for found, expected in pairs:
        assert float((found - expected).norm()) <= 5e-5 * float(expected.norm())  # computed in float32


class Pictures:
    """Images in uneven batches, as what :meth:`SelfTraining.begin` is given."""

    def __init__(self, pixels: Tensor) -> None:
        self.pixels = pixels

    def __len__(self) -> int:
        return len(self.pixels)

    def centered(self, _: int):
        return self.pixels.split([4, 1, 3, 1])


def test_shares_of_the_start_are_the_mean_zero_shot_prediction_and_stay(model: CLIPModel) -> None:
    exact, batch = copy.deepcopy(model).double(), batch_of()
    learner = learner_of(model)
    learner.settings = replace(learner.settings, class_prior="estimate")
    pictures = torch.randn(9, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(4))
    learner.begin(Pictures(pictures))
    Z0 = learner.anchors.detach().double()
    q = [0.0] * K
    for x in pictures.double():
        f = exact.visual_projection(exact.vision_model(pixel_values=x[None]).pooler_output[0]).detach()
        powers = [math.exp(20.0 * cosine_similarity(f, Z0[j], dim=0)) for j in range(K)]
        q = [value + power / sum(powers) / 9 for value, power in zip(q, powers, strict=True)]
    torch.testing.assert_close(learner.class_prior.double(), torch.tensor(q, dtype=torch.float64), rtol=1e-5, atol=1e-6)
    assert max(q) > 2 * min(q)

    Z = moved_anchors(learner)
    loss, *_ = algorithm_1(exact, Z, Z0, batch, q=q)
    found = learner.loss(batch)["loss"]
    torch.testing.assert_close(found.double(), loss, rtol=1e-5, atol=0)
    loss.backward()
    found.backward()
    assert float((learner.anchors.grad - Z.grad).norm()) <= 5e-5 * float(Z.grad.norm())


def test_crop_weights_sum_to_one_over_all_and_to_less_over_the_best(model: CLIPModel) -> None:
    learner, batch = learner_of(model), batch_of()
    anchors = learner.anchors.detach().double()
    expected = algorithm_1(copy.deepcopy(model).double(), anchors, anchors, batch)[3]
    whole = learner.vision()(batch.pixels).classes[0]
    crops = learner.vision()(next(batch.chunks(B * N))).classes[0].unflatten(0, (B, N))
    weights = crop_weights(whole, crops)
    torch.testing.assert_close(weights, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(weights.sum(1), torch.ones(B))
    anchors = torch.randn(K, 24)
    masses = [align(weights, crops, anchors, k).mass for k in range(1, N + 1)]
    assert all(bool((few < more).all()) for few, more in pairwise(masses))
    torch.testing.assert_close(masses[-1], torch.ones(B))


def test_at_the_published_size_it_learns_45_056_numbers() -> None:
    text = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
    with torch.device("meta"):
        model = CLIPModel(CLIPConfig(text_config=text, vision_config={**vision, "patch_size": 32}, projection_dim=512))
    learner = SelfTraining(towers_of(model, torch.randn(10, 4, 512), 100.0), FAIR())
    assert sum(p.numel() for p in learner.parameters() if p.requires_grad) == 45_056
    assert sum(value.numel() for value in learner.state().values()) == 45_056
    published = sum(p.numel() for name, p in model.vision_model.named_parameters() if "norm" in name)
    assert published + 10 * 512 == 45_056


def test_only_learned_alignment_follows_the_anchors(model: CLIPModel) -> None:
    batch = batch_of()
    for alignment, follows in (("learned", True), ("fixed", False)):
        learner = learner_of(model, alignment=alignment)
        before = learner.alignment(batch, learner.vision()).scores
        with torch.no_grad():
            learner.anchors.copy_(learner.anchors.flip(0))
        after = learner.alignment(batch, learner.vision()).scores
        torch.testing.assert_close(after, before.flip(1) if follows else before)


def test_kept_labels_need_no_crops(model: CLIPModel) -> None:
    learner = learner_of(model, refresh=2)
    learner.loss(batch_of())
    labels, gammas = learner.labels.clone(), learner.gammas.clone()
    with torch.no_grad():
        learner.anchors.copy_(learner.anchors.flip(0))
    later = batch_of(epoch=1)
    learner.loss(replace(later, crops=later.crops[:, :0]))
    assert torch.equal(learner.labels, labels)
    assert torch.equal(learner.gammas, gammas)
    learner.loss(batch_of(epoch=2))
    assert not torch.equal(learner.labels, labels)


@pytest.fixture(scope="module")
def digits() -> Items:
    return load_digits().select(np.arange(64))


@pytest.fixture(scope="module")
def fitted(encoder, digits: Items, text) -> FAIR:
    return FAIR(**QUICK | {"epochs": 4, "learning_rate": 5e-4}).fit(digits, text=text, encoder=encoder)


def test_it_learns_without_labels_and_the_encoder_is_not_modified(encoder, digits: Items, text, fitted: FAIR) -> None:
    before = copy.deepcopy(encoder.model.state_dict())
    hidden = replace(digits, labels=np.full(64, UNLABELED))
    blind = FAIR(**QUICK | {"epochs": 4, "learning_rate": 5e-4}).fit(hidden, text=text, encoder=encoder)
    assert all(torch.equal(blind.tensors_[name], value) for name, value in fitted.tensors_.items())
    assert all(torch.equal(value, before[name]) for name, value in encoder.model.state_dict().items())
    still = FAIR(**QUICK | {"epochs": 4, "learning_rate": 1e-12, "training": {"final_rate": 0.0}})
    still.fit(digits, text=text, encoder=encoder)
    assert fitted.diagnosis_["loss"] < still.diagnosis_["loss"]
    assert max(still.diagnosis_["divergence"]) < 1
    np.testing.assert_array_equal(fitted.transduction_, fitted.score_images(digits, encoder).logits.argmax(axis=1))
    assert (fitted.transduction_ == digits.labels).mean() > 0.75


def test_the_diagnosis_has_the_effect_of_the_labels(fitted: FAIR) -> None:
    found = fitted.diagnosis_
    json.dumps(found, allow_nan=False)
    assert found["trainable"] == sum(value.numel() for value in fitted.tensors_.values())
    for name in ("changed", "agreement", "divergence", "gamma", "self_training", "fairness"):
        assert len(found[name]) == 4
    assert found["changed"][0] is None
    assert all(0 <= share <= 1 for share in [*found["changed"][1:], *found["agreement"], *found["gamma"]])
    assert sum(found["pseudo_labels"]) == 64
    counts = torch.tensor(found["pseudo_labels"])
    assert found["divergence"][-1] == pytest.approx(float(divergence_from_uniform(counts)))
    assert "warning" not in found
    assert "approximation" not in found


def test_self_training_counts_beside_fairness_only_if_scores_are_probabilities(encoder, digits, text) -> None:
    found = {
        score: FAIR(**QUICK | {"epochs": 1, "score_scale": score}).fit(digits, text=text, encoder=encoder).diagnosis_
        for score in ("prob", "raw")
    }
    # What fairness can be lowered by at all, against the self-training term.
    assert found["prob"]["self_training"][0] > found["prob"]["fairness"][0] - math.log(10)
    assert found["raw"]["self_training"][0] < found["raw"]["fairness"][0] - math.log(10)
    assert found["raw"]["gamma"][0] < 0.05 < found["prob"]["gamma"][0]


def test_labels_on_few_classes_are_warned_of_once(encoder, digits: Items, text) -> None:
    one_sided = replace(digits.select(np.flatnonzero(digits.labels == 3)), class_names=digits.class_names)
    method = FAIR(**QUICK)
    with pytest.warns(UserWarning, match="fall on about") as caught:
        method.fit(one_sided, text=text, encoder=encoder)
    assert len([w for w in caught if "fall on about" in str(w.message)]) == 1
    assert "of 10 classes" in method.diagnosis_["warning"]


def test_an_interrupted_training_ends_as_if_nothing_had_been(encoder, digits, text, tmp_path) -> None:
    def fit(**checkpoint):
        method = FAIR(**QUICK | {"refresh": 2, "momentum": 0.5, "epochs": 3})
        return method.fit(digits, text=text, encoder=encoder, **checkpoint)

    whole, epoch = broken_off_and_resumed(fit, SelfTraining, 7, tmp_path / "state")
    assert epoch == 1  # four batches an epoch: in the middle of the second
    assert whole.diagnosis_["approximation"] == "pseudo-labels recomputed every 2 epochs only"


def test_a_folder_without_labels_is_adapted_saved_and_loaded(encoder, digits: Items, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for i in range(24):
        digits.open(i).save(photos / f"{i:02}.png")
    (photos / "05.png").write_bytes(b"nothing")
    names = tmp_path / "names.txt"
    names.write_text("\n".join(digits.class_names), encoding="utf-8")
    model = ma.adapt(
        photos, unlabeled=True, classes=names, encoder=encoder, method="fair", templates=DIGIT_TEMPLATES,
        crops=4, keep=2, epochs=1, augmentation="randaugment", checkpoint=tmp_path / "state",
    )  # fmt: skip
    assert model.method.transduction_[5] == UNLABELED
    assert len(model.method.transduction_) == 24
    again = saved_and_loaded(model, tmp_path / "model", digits, encoder)
    np.testing.assert_array_equal(again.method.transduction_, model.method.transduction_)
    assert sum(file.stat().st_size for file in (tmp_path / "model").iterdir()) < 250_000


def test_shares_of_the_start_are_those_of_the_encoder_itself_and_recorded(encoder, digits, text, tmp_path) -> None:
    few = digits.select(np.flatnonzero(digits.labels < 3))
    method = FAIR(**QUICK | {"epochs": 1, "class_prior": "estimate"}).fit(few, text=text, encoder=encoder)
    Z = torch.from_numpy(text.vectors.copy()).sum(dim=1)
    Z, f = Z / Z.norm(dim=1, keepdim=True), torch.from_numpy(encoder.embed_images(few).vectors.copy())
    expected = (float(encoder.logit_scale) * f @ Z.T).softmax(dim=1).mean(dim=0)
    np.testing.assert_allclose(method.diagnosis_["class_prior"], expected.numpy(), atol=1e-4)
    assert sum(method.diagnosis_["class_prior"][:3]) > 0.5
    even = FAIR(**QUICK | {"epochs": 1}).fit(few, text=text, encoder=encoder)
    assert even.class_prior == "uniform"  # as published
    assert "class_prior" not in even.diagnosis_
    assert not torch.equal(even.tensors_["anchors"], method.tensors_["anchors"])
    again = load_model(save_model(tmp_path / "model", method))[0]
    assert again.class_prior == "estimate"
    assert again.diagnosis_ == method.diagnosis_


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"class_prior": "even"}, "class_prior"),
        ({"crops": 3, "keep": 4}, "keep at most all 3 crops"),
        ({"smallest_crop": 0.9, "largest_crop": 0.5}, "smallest ≤ largest"),
        ({"momentum": 1.0}, "momentum below 1"),
        ({"refresh": 2, "training": {"drop_last": True}}, "refresh=1 with drop_last"),
        ({"augmentation": ["center", "strong"]}, "one augmentation"),
        ({"score_scale": "cosine"}, "score_scale"),
    ],
)
def test_wrong_inputs_are_refused_before_any_step(settings, sentence, encoder, digits, text, monkeypatch) -> None:
    monkeypatch.setattr("modalign.methods.contract.tower.train", lambda *_, **__: pytest.fail("training began"))
    with pytest.raises(InputError, match=sentence):
        FAIR(**settings).fit(digits, text=text, encoder=encoder)


def test_the_notes_of_an_epoch_of_one_image_are_its_own() -> None:
    tally = torch.tensor([[1.0, 1.0, 1.0, 0.75, 0.5, 0.0, 0.0]])
    training = SimpleNamespace(settings=SimpleNamespace(refresh=1), tally=tally, histogram=torch.tensor([[1.0, 0.0]]))
    notes = SelfTraining.notes(training, 0)
    assert notes == {"changed": 1.0, "agreement": 0.75, "divergence": pytest.approx(math.log(2)), "gamma": 0.5}
