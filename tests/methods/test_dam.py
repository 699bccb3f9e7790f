"""DAM against a literal loop over the paper's equations, and as a method that is trained, stopped, saved and served."""

from __future__ import annotations

import json
import math
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor
from word_clip import (
    DESCRIPTIONS,
    GRAPHS,
    NAMES,
    Words,
    graph,
    literal_image,
    literal_text,
    structures,
    word_clip,
    word_towers,
)

import modalign as ma
from modalign.core.errors import InputError
from modalign.data.digits import DIGIT_TEMPLATES, load_digits
from modalign.data.items import Items
from modalign.data.text.descriptions import sentences
from modalign.linalg.similarity import unit
from modalign.methods.dam.dam import DAM
from modalign.methods.dam.dam_learner import DAMLearner
from modalign.methods.dam.hpt import HPT, from_templates
from modalign.tune.batches import Batch

pytestmark = pytest.mark.filterwarnings("ignore:(DAM|HPT) was given no")
FAST = {"epochs": 2, "batch_size": 8, "learning_rate": 0.005, "augmentation": "center"}


def aligned(frozen: Tensor, prompted: Tensor, value: dict[str, Tensor], name: str, n: int, shared: bool) -> Tensor:
    """Equations 1 to 5 by the matrices of each pair, or of all pairs together."""
    c = frozen.shape[1]
    eye = torch.eye(c, dtype=torch.float64)
    lam, rho = n / c * value[f"{name}.log_ridge"].exp() + 1e-6, value[f"{name}.rho"]
    rows = []
    for f_0, f in zip(frozen, prompted, strict=True):
        known, goal = (prompted.T, frozen.T) if shared else (f[:, None], f_0[:, None])
        W = goal @ known.T @ torch.linalg.inv(known @ known.T + lam * eye)
        rows.append((rho * eye + (1 - rho) * W) @ f)
    return torch.stack(rows)


def equations(learner: DAMLearner, f_A: Tensor, f_I: Tensor, f_D: Tensor, f_R: Tensor, how: dict) -> tuple:
    """Equations 1 to 11: logits (B, K), and L_SMA."""
    value = {name: p.detach() for name, p in learner.alignment.named_parameters()}
    c, n_images, n_texts = f_A.shape[1], how["batch_size"], len(f_D)
    eye = torch.eye(c, dtype=torch.float64)
    found = {
        "images": (f_A, f_I, aligned(f_A, f_I, value, "images", n_images, False)),
        "texts": (f_D, f_R, aligned(f_D, f_R, value, "texts", n_texts, how["text_map"] == "shared")),
    }
    if how["preset"] == "official_code":
        m = how["aligned_weight"] or 0.1
        found = {k: (frozen, f, unit(f + m * hat)) for k, (frozen, f, hat) in found.items()}
    cosines = [torch.stack([unit(g) @ unit(h) for g, h in zip(f, hat, strict=True)]) for f, _, hat in found.values()]
    images, texts = found["images"][2], found["texts"][2]
    log_it, log_mu_it, log_ti, log_mu_ti = value["cross_scales"]
    lam_it, lam_ti = n_images / c * log_it.exp() + 1e-6, n_texts / c * log_ti.exp() + 1e-6
    logits = torch.zeros(len(images), len(texts), dtype=torch.float64)
    for i, a in enumerate(images):
        residuals = []
        for t in texts:
            W_IT = torch.outer(t, a) @ torch.linalg.inv(torch.outer(a, a) + lam_it * eye)
            W_TI = torch.outer(a, t) @ torch.linalg.inv(torch.outer(t, t) + lam_ti * eye)
            of_text = (t - log_mu_it.exp() * W_IT @ a).square().sum()
            of_image = (a - log_mu_ti.exp() * W_TI @ t).square().sum()
            residuals.append(-value["omega"] * (value["alpha"] * of_text + (1 - value["alpha"]) * of_image))
        cma = torch.stack(residuals).log_softmax(0)
        beta = torch.sigmoid(value["blend_logit"])
        logits[i] = 100 * (beta * torch.stack([unit(a) @ unit(t) for t in texts]) + (1 - beta) * cma)
    return logits, 2 - cosines[0].mean() - cosines[1].mean()


@pytest.mark.parametrize(
    "how",
    [
        {"preset": "paper"},
        {"preset": "official_code"},
        {"preset": "official_code", "aligned_weight": 0.9, "batch_size": 2},
        {"preset": "paper", "text_map": "shared"},
    ],
    ids=["paper", "official_code", "aligned_weight", "shared map"],
)
def test_loss_and_scores_are_those_of_the_equations(how: dict, tmp_path: Path) -> None:
    how = {"aligned_weight": None, "text_map": "own", "batch_size": 8} | how
    model, words = word_clip(), Words()
    towers = word_towers(model, NAMES, DESCRIPTIONS, words)
    method = DAM(structures=structures(tmp_path), instance_prompts=3, loss_weight=7.0, **how)
    learner = method._learner(towers, torch.Generator().manual_seed(0)).double()
    draws = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in learner.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=draws).double()
    views = torch.randn(2, 4, 3, 12, 12, generator=draws).double()
    labels = torch.tensor([0, 2, 1, 2])

    prompts = list(learner.visual.prompts())
    f_I = unit(torch.stack([literal_image(model, x, prompts) for x in views[0]]))
    f_A = unit(torch.stack([literal_image(model, x, []) for x in views[1]]))
    f_D = unit(towers.class_text.sum(dim=1))

    def texts(graphs: list[int]) -> Tensor:
        picked = [GRAPHS[name.replace("_", " ")][g] for name, g in zip(NAMES, graphs, strict=True)]
        rows = zip(NAMES, DESCRIPTIONS, picked, strict=True)
        return unit(torch.stack([literal_text(model, words, learner.text, *row) for row in rows]))

    torch.manual_seed(11)
    found = learner.loss(Batch((views[0], views[1]), labels, torch.arange(4), 0))
    torch.manual_seed(11)
    logits, same_modal = equations(learner, f_A, f_I, f_D, texts(torch.randint(2, (3,)).tolist()), how)
    cross_entropy = -torch.stack([row.log_softmax(0)[y] for row, y in zip(logits, labels, strict=True)]).mean()
    torch.testing.assert_close(found["same_modal"], same_modal, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(found["cross_entropy"], cross_entropy, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(found["loss"], cross_entropy + 7.0 * same_modal, rtol=1e-8, atol=1e-8)

    f_R = unit(texts([0, 0, 0]) + texts([1, 1, 1]))
    seen_alone = unit(torch.stack([literal_image(model, x, []) for x in views[0]]))
    expected, _ = equations(learner, seen_alone, f_I, f_D, f_R, how)
    torch.testing.assert_close(learner.scores(views[0], learner.classes()), expected, rtol=1e-8, atol=1e-8)


def test_gradients_reach_everything_that_is_learned(tmp_path: Path) -> None:
    towers = word_towers(word_clip(), NAMES, DESCRIPTIONS)
    method = DAM(structures=structures(tmp_path), cma="sets")
    learner = method._learner(towers, torch.Generator().manual_seed(0)).double()
    views = torch.randn(2, 4, 3, 12, 12, generator=torch.Generator().manual_seed(2)).double()
    learner.loss(Batch(tuple(views), torch.tensor([0, 1, 2, 0]), torch.arange(4), 0))["loss"].backward()
    for name, parameter in learner.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory):
    return ma.load_encoder("tiny", cache=tmp_path_factory.mktemp("cache"), dtype="float32", device="cpu")


@pytest.fixture(scope="module")
def digits() -> Items:
    items = load_digits()
    return items.select(np.concatenate([np.flatnonzero(items.labels == c)[:3] for c in range(10)]))


@pytest.fixture(scope="module")
def text(encoder, digits: Items):
    return encoder.embed_texts(sentences(digits.class_names, DIGIT_TEMPLATES), class_names=digits.class_names)


@pytest.fixture
def knowledge(digits: Items, tmp_path: Path) -> dict[str, str]:
    """Two files about the digits: descriptions and structures, two a class."""
    strokes = ["round", "straight", "curved", "bent", "angled", "bent", "looped", "slanted", "double", "tailed"]
    files = {"descriptions": {}, "structures": {}}
    for name, stroke in zip(digits.class_names, strokes, strict=True):
        files["descriptions"][name] = [f"the digit {name} has a {stroke} stroke", f"a {stroke} {name}"]
        files["structures"][name] = [
            graph(["digit", "line"], [stroke], [(name, "line"), ("line", stroke)]),
            graph([name], [stroke, "ink"], [(name, stroke), (name, "ink")]),
        ]
    for kind, content in files.items():
        (tmp_path / f"{kind}.json").write_text(json.dumps(content), encoding="utf-8")
    return {kind: str(tmp_path / f"{kind}.json") for kind in files}


def test_it_learns_and_its_decisions_do_not_depend_on_the_batch(encoder, digits: Items, text) -> None:
    settings = FAST | {"training": {"warmup": 0}, "random_state": 0}
    one = DAM(**settings | {"epochs": 1, "learning_rate": 0.0}).fit(digits, text=text, encoder=encoder)
    method = DAM(**settings | {"epochs": 5}).fit(digits, text=text, encoder=encoder)
    assert method.diagnosis_["loss"] < one.diagnosis_["loss"]
    width, depth, instances = 128, 3, len(DIGIT_TEMPLATES)
    text_side = (depth - 1) * 2 * width + (2 + instances) * width + width**2 + width
    assert method.diagnosis_["trainable"] == 4 * 2 * width + text_side + 11
    whole, single = (method.score_images(digits, encoder, batch_size=b).logits for b in (30, 1))
    np.testing.assert_allclose(whole, single, atol=1e-3)
    scalars = {name: method.diagnosis_[name] for name in ("alpha", "omega", "rho_image", "mu_image_to_text")}
    assert scalars != {"alpha": 0.5, "omega": 1.0, "rho_image": 0.5, "mu_image_to_text": 1.0}


def test_a_saved_model_needs_no_files(encoder, digits: Items, knowledge: dict, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = ma.adapt(digits, encoder=encoder, method="dam", shots=2, **FAST, **knowledge)
    assert model.method.diagnosis_["knowledge"] == "descriptions and structures"
    assert model.method.diagnosis_["relations"] == 40
    before = model.predict(digits).probabilities
    folder = model.save(tmp_path / "model")
    for file in knowledge.values():
        Path(file).unlink()
    np.testing.assert_array_equal(ma.load(folder, encoder=encoder).predict(digits).probabilities, before)
    model.method._bound = None
    np.testing.assert_array_equal(model.predict(digits).probabilities, before)


def test_a_stopped_run_ends_as_the_undisturbed_one(
    encoder, digits: Items, text, knowledge: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = DAM(structures=knowledge["structures"], random_state=1, **FAST | {"augmentation": "random_resized_crop"})
    whole = {k: v.clone() for k, v in method.fit(digits, text=text, encoder=encoder).tensors_.items()}

    class Stopped(Exception):
        pass

    def stop(self: DAMLearner, epoch) -> None:
        if epoch.epoch == 1:
            raise Stopped

    monkeypatch.setattr(DAMLearner, "ended", stop)
    with pytest.raises(Stopped):
        method.fit(digits, text=text, encoder=encoder, checkpoint=tmp_path / "state")
    monkeypatch.undo()
    method.fit(digits, text=text, encoder=encoder, checkpoint=tmp_path / "state")
    assert all(torch.equal(whole[name], value) for name, value in method.tensors_.items())

    content = json.loads(Path(knowledge["structures"]).read_text(encoding="utf-8"))
    content[digits.class_names[0]].reverse()
    Path(knowledge["structures"]).write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(InputError, match="another run"):
        method.fit(digits, text=text, encoder=encoder, checkpoint=tmp_path / "state")


def test_other_classes_take_over_the_prompts(encoder, digits: Items, text, knowledge: dict, tmp_path: Path) -> None:
    method = DAM(structures=knowledge["structures"], random_state=0, **FAST).fit(digits, text=text, encoder=encoder)
    names = [digits.class_names[c] for c in (7, 2)]
    other = method.for_classes(encoder.embed_texts(sentences(names, DIGIT_TEMPLATES), class_names=names), encoder)
    features = method.tensors_["text_features"]
    torch.testing.assert_close(other.tensors_["text_features"], features[[7, 2]], atol=1e-5, rtol=1e-5)
    assert other.score_images(digits, encoder).logits.shape == (30, 2)
    assert method.score_images(digits, encoder).logits.shape == (30, 10)
    described = [[f"{name}, {stroke}" for stroke in ("round", "bent", "long")] for name in names]
    encoder_text = encoder.embed_texts(described, class_names=names)
    assert torch.isfinite(method.for_classes(encoder_text, encoder).tensors_["text_features"]).all()
    new = encoder.embed_texts(["a nought", "a naught"], class_names=["nought", "naught"])
    with pytest.raises(InputError, match="got none of"):
        method.for_classes(new, encoder)
    known = json.loads(Path(knowledge["structures"]).read_text(encoding="utf-8"))
    of_new = tmp_path / "new.json"
    of_new.write_text(json.dumps({"nought": known["zero"], "naught": known["one"]}), encoding="utf-8")
    moved = method.for_classes(new, encoder, structures=str(of_new))
    assert moved.score_images(digits, encoder).logits.shape == (30, 2)
    assert method.structures == knowledge["structures"]


def test_hpt_is_dam_without_alignment(encoder, digits: Items, text, knowledge: dict) -> None:
    """Trained on the same images in the same order, whatever else DAM computes in a step."""
    settings = {"structures": knowledge["structures"], "random_state": 3, **FAST | {"augmentation": "flip"}}
    hpt = HPT(**settings).fit(digits, text=text, encoder=encoder)
    dam = DAM(sma="none", cma="none", preset="official_code", **settings).fit(digits, text=text, encoder=encoder)
    for name, value in hpt.tensors_.items():
        torch.testing.assert_close(value, dam.tensors_[name], rtol=1e-5, atol=1e-6)
    logits = [method.score_images(digits, encoder).logits for method in (hpt, dam)]
    np.testing.assert_allclose(*logits, atol=1e-4)
    assert hpt.diagnosis_["trainable"] == dam.diagnosis_["trainable"]
    assert hpt.diagnosis_["knowledge"] == "templates and structures"
    names = [digits.class_names[c] for c in (7, 2)]
    other = hpt.for_classes(text.select(names), encoder)
    np.testing.assert_allclose(other.score_images(digits, encoder).logits, logits[0][:, [7, 2]], atol=1e-3)


def test_without_files_it_reports_that(encoder, digits: Items, text) -> None:
    for kind in (DAM, HPT):
        method = kind(**FAST | {"epochs": 1})
        with pytest.warns(UserWarning, match=f"{kind.__name__} was .*see descriptions=… and structures=…") as caught:
            method.fit(digits, text=text, encoder=encoder)
        assert Path(caught[0].filename) == Path(__file__)
        assert method.diagnosis_["knowledge"] == "templates and no structures"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"structures": "missing class"}, "got none of"),
        ({"descriptions": "missing class"}, "got none of"),
        ({"structures": "nowhere.json"}, "does not exist"),
        ({"augmentation": ["center"]}, "two augmentations"),
        ({"global_prompts": 80}, "prompt tokens"),
        ({"cma": "pairs"}, "pairs"),
    ],
)
def test_wrong_inputs_are_refused_before_any_step(
    change: dict, sentence: str, encoder, digits: Items, knowledge: dict, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr("modalign.methods.contract.tower.train", lambda *_, **__: pytest.fail("training began"))
    ((name, value),) = change.items()
    if value == "missing class":
        content = json.loads(Path(knowledge[name]).read_text(encoding="utf-8"))
        del content[digits.class_names[4]]
        value = str(tmp_path / "less.json")
        Path(value).write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(InputError, match=sentence):
        ma.adapt(digits, encoder=encoder, method="dam", shots=2, **FAST | knowledge | {name: value})


def test_the_diagnosis_lists_what_acts(encoder, digits: Items, text) -> None:
    def diagnosis(**options: object) -> dict:
        return DAM(random_state=0, **FAST | {"epochs": 1}, **options).fit(digits, text=text, encoder=encoder).diagnosis_

    published = diagnosis(preset="official_code")
    assert published["cma_spread"] < 1e-6
    assert published["changed_by_cma"] == 0
    assert diagnosis(cma="sets")["cma_spread"] > 1e-4
    without = diagnosis(sma="none", cma="none")
    assert without["changed_by_sma"] == without["changed_by_cma"] == without["cma_spread"] == 0
    assert math.isclose(without["lambda_text"], 10 / 128 + 1e-6, rel_tol=1e-3)


@pytest.mark.parametrize("settings", DAM.ablations.values(), ids=list(DAM.ablations))
def test_ablations_change_the_scores(settings: dict, encoder, digits: Items, text) -> None:
    both = [
        DAM(random_state=0, **FAST | {"epochs": 1}, **options).fit(digits, text=text, encoder=encoder)
        for options in ({}, settings)
    ]
    both = [method.score_images(digits, encoder) for method in both]
    # residuals of one pair of near-unit vectors differ little between the directions
    assert np.abs(both[0].logits - both[1].logits).max() > (1e-5 if "directions" in settings else 1e-2)


def test_shared_map_and_frozen_terms_serve_as_they_train(encoder, digits: Items, text) -> None:
    method = DAM(random_state=0, text_map="shared", frozen_terms=True, **FAST).fit(digits, text=text, encoder=encoder)
    logits = method.score_images(digits, encoder).logits
    assert np.isfinite(logits).all()
    assert (logits.argmax(axis=1) == digits.labels).mean() > 0.5


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ((("a photo of a photo.",), ("a photo of a sea horse.",)), True),  # a name that is in the template, too
        ((("an owl.", "it is an owl"), ("a sea horse.", "it is a sea horse")), True),
        ((("a photo.", "one photo"), ("a sea horse.", "one sea horse")), True),
        ((("a photo.", "It is flat."), ("a sea horse.", "It swims.")), False),
        ((("a photo.",), ("a sea horse.", "one sea horse")), False),
    ],
)
def test_what_counts_as_templates(lines, expected) -> None:
    first = "owl" if "owl" in lines[0][0] else "photo"
    assert from_templates(SimpleNamespace(class_names=(first, "sea_horse"), sentences=lines)) is expected


def test_the_effect_is_that_of_the_prompted_and_of_the_frozen_view() -> None:
    views, seen = (torch.zeros(2, 3), torch.ones(2, 3)), []

    def compared(prompted: Tensor, frozen: Tensor, texts: object) -> tuple[SimpleNamespace, Tensor]:
        seen.append((prompted, frozen))
        found = SimpleNamespace(cross_modal=None, cosine=torch.eye(2), logits=torch.eye(2))
        return found, torch.eye(2).flip(0)

    data = SimpleNamespace(in_order=lambda _: [SimpleNamespace(views=views)])
    learner = SimpleNamespace(classes=lambda: None, compared=compared)
    assert DAMLearner.effect(learner, data, 2) == {"cma_spread": 0.0, "changed_by_sma": 1.0, "changed_by_cma": 0.0}
    assert seen[0][0] is views[0]
    assert seen[0][1] is views[1]
