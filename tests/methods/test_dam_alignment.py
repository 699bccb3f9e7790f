"""DAM's alignment against the c × c matrices of its equations, loops over pairs, and what it is proved to be."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from modalign.core.errors import InputError, UnknownNameError
from modalign.linalg.residuals import pairwise_residuals, set_residuals
from modalign.methods.dam.dam_alignment import DAMAlignment
from modalign.methods.dam.dam_same_modal import SameModal, same_modal, shared_map
from modalign.tune.prompts import count_parameters

B, N, C = 3, 4, 6


def features(seed=0, rows=(B, B, N, N), c=C):
    """Frozen and prompted images, frozen and prompted texts, float64, of any length."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(n, c, generator=generator, dtype=torch.float64) for n in rows]


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def module(seed=0, **options):
    """A DAMAlignment in float64 whose scalars are not at their start."""
    made = DAMAlignment(**options).double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return made


def literal(made, frozen_images, images, frozen_texts, texts, *, official_code, shared=False):
    """Equations 1 to 11 with c × c matrices, one feature and one pair at a time, in NumPy."""
    value = {name: parameter.detach().numpy() for name, parameter in made.named_parameters()}
    eye = np.eye(C)

    def aligned(name, frozen, prompted):
        lam = len(prompted) / C * np.exp(value[f"{name}.log_ridge"]) + 1e-6
        rho, found = value[f"{name}.rho"], []
        F = prompted
        common = np.linalg.inv(F.T @ F + lam * eye) @ F.T @ frozen if shared and name == "texts" else None
        for f_0, f in zip(frozen, prompted, strict=True):
            W = np.outer(f_0, f) @ np.linalg.inv(np.outer(f, f) + lam * eye) if common is None else common.T
            found.append((rho * eye + (1 - rho) * W) @ f)
        found = np.array(found)
        mixed = compared = unit(prompted + 0.1 * found) if official_code else found
        return mixed, 1 - np.mean(
            [f @ g / np.linalg.norm(f) / np.linalg.norm(g) for f, g in zip(frozen, compared, strict=True)]
        )

    f_A, loss_image = aligned("images", unit(frozen_images), unit(images))
    f_D, loss_text = aligned("texts", unit(frozen_texts), unit(texts))
    scales = value["cross_scales"]
    lam_it, lam_ti = B / C * np.exp(scales[0]) + 1e-6, N / C * np.exp(scales[2]) + 1e-6
    distance, cosine = np.zeros((B, N)), np.zeros((B, N))
    for i, a in enumerate(f_A):
        for j, t in enumerate(f_D):
            W_IT = np.outer(t, a) @ np.linalg.inv(np.outer(a, a) + lam_it * eye)
            W_TI = np.outer(a, t) @ np.linalg.inv(np.outer(t, t) + lam_ti * eye)
            of_text = np.sum((t - np.exp(scales[1]) * W_IT @ a) ** 2)
            of_image = np.sum((a - np.exp(scales[3]) * W_TI @ t) ** 2)
            distance[i, j] = -value["omega"] * (value["alpha"] * of_text + (1 - value["alpha"]) * of_image)
            cosine[i, j] = a @ t / np.linalg.norm(a) / np.linalg.norm(t)
    cross = distance - np.log(np.exp(distance).sum(axis=1, keepdims=True))
    beta = 1 / (1 + np.exp(-value["blend_logit"]))
    return 100 * (beta * cosine + (1 - beta) * cross), loss_image + loss_text, cross


@pytest.mark.parametrize("official_code", [False, True])
@pytest.mark.parametrize("text_map", ["own", "shared"])
def test_equations_as_matrices(official_code, text_map):
    made, inputs = module(official_code=official_code, text_map=text_map), features()
    found = made(*inputs)
    logits, loss, cross = literal(
        made, *(x.numpy() for x in inputs), official_code=official_code, shared=text_map == "shared"
    )
    np.testing.assert_allclose(found.logits.detach(), logits, atol=1e-7)
    np.testing.assert_allclose(found.cross_modal.detach(), cross, atol=1e-9)
    assert found.loss.item() == pytest.approx(loss, abs=1e-9)


def test_float32_agrees_to_five_digits():
    made, inputs = module(official_code=True), features()
    logits, _, _ = literal(made, *(x.numpy() for x in inputs), official_code=True)
    found = made.float()(*(x.float() for x in inputs))
    np.testing.assert_allclose(found.logits.detach() / 100, logits / 100, atol=1e-5)


def test_eleven_scalars():
    assert sum(parameter.numel() for parameter in DAMAlignment().parameters()) == 11
    assert 295_960 + sum(p.numel() for p in DAMAlignment(official_code=True).parameters()) == 295_971


@pytest.mark.parametrize(("directions", "alpha"), [("image-to-text", 1.0), ("text-to-image", 0.0)])
def test_one_direction_is_equation_10_at_an_end_of_alpha_and_trains_no_scalar_of_the_other(directions, alpha):
    draws = torch.Generator().manual_seed(0)
    images, texts = torch.randn(3, 8, generator=draws), torch.randn(5, 8, generator=draws)
    both, one = DAMAlignment(), DAMAlignment(directions=directions)
    with torch.no_grad():
        both.alpha.fill_(alpha)
        for made in (both, one):
            made.cross_scales.copy_(torch.tensor([0.3, -0.2, 0.5, 0.1]))
    logits, _, cross = one.score(images, texts)
    torch.testing.assert_close(cross, both.score(images, texts)[2])
    logits.square().sum().backward()
    assert not one.alpha.requires_grad
    own, other = (slice(0, 2), slice(2, 4)) if alpha else (slice(2, 4), slice(0, 2))
    assert one.cross_scales.grad[own].abs().min() > 0
    assert one.cross_scales.grad[other].abs().max() == 0


def test_scalars_start_as_published():
    made = DAMAlignment()
    assert made.blend.item() == pytest.approx(0.6225, abs=1e-4)
    assert (made.alpha.item(), made.omega.item(), made.images.rho.item()) == (0.5, 1.0, 0.5)
    assert made.cross_scales[1::2].exp().tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("classes", "printed"), [(500, 0.9767), (5, 0.0094), (98, 0.1917), (50, 0.0979), (199, 0.3862)]
)
def test_table_vi_prints_the_ridge_of_the_start(classes, printed):
    """The λ of the paper's Table VI are N / 512 of the base classes: nothing was learned."""
    assert SameModal().ridge(torch.zeros(classes, 512)).item() == pytest.approx(printed, rel=0.05)


def test_own_map_is_the_ridge_of_its_matrix():
    frozen, prompted = features()[:2]
    for lam, rho in ((0.1, 0.5), (3.0, 0.0), (1e-6, 1.0), (0.7, -0.2)):
        for f_0, f, found in zip(frozen, prompted, same_modal(frozen, prompted, lam, rho), strict=True):
            gram = torch.outer(f, f) + lam * torch.eye(C, dtype=f.dtype)
            W = torch.linalg.solve(gram, torch.outer(f, f_0)).T
            torch.testing.assert_close(found, rho * f + (1 - rho) * W @ f, atol=1e-7, rtol=0)


@pytest.mark.parametrize("rows", [4, 20])
def test_shared_map_is_one_ridge(rows):
    """(SᵀS + λI)⁻¹ SᵀT with fewer and with more rows than columns; one row alone is the map of its own."""
    frozen, prompted = features(rows=(rows, rows))
    W = torch.linalg.inv(prompted.T @ prompted + 0.3 * torch.eye(C, dtype=torch.float64)) @ prompted.T @ frozen
    expected = 0.4 * prompted + 0.6 * prompted @ W
    torch.testing.assert_close(shared_map(frozen, prompted, 0.3, 0.4), expected, atol=1e-10, rtol=0)
    single = frozen[:1], prompted[:1]
    torch.testing.assert_close(shared_map(*single, 0.3, 0.4), same_modal(*single, 0.3, 0.4), atol=1e-10, rtol=0)


@pytest.mark.parametrize("options", [{}, {"text_map": "shared"}, {"cross_modal": "sets"}, {"official_code": True}])
def test_gradients_are_finite_differences(options):
    made, inputs = module(**options), [x.requires_grad_() for x in features()]
    if options.get("cross_modal") == "sets":
        inputs += [x.requires_grad_() for x in (torch.randn(B, 2, C).double(), torch.randn(N, 3, C).double())]

    def run(*parts):
        found = made(*parts[:4], **dict(zip(("image_set", "text_set"), parts[4:], strict=False)))
        return found.logits / 100, found.loss

    assert torch.autograd.gradcheck(run, inputs, atol=1e-6)
    found = run(*inputs)
    total = lambda found: found[0].square().sum() + found[1]  # noqa: E731
    scalars = list(made.parameters())
    for parameter, gradient in zip(scalars, torch.autograd.grad(total(found), scalars), strict=True):
        for index in np.ndindex(*parameter.shape):
            sides = []
            for step in (1e-6, -1e-6):
                with torch.no_grad():
                    parameter[index] += step
                    sides.append(total(run(*inputs)).item())
                    parameter[index] -= step
            assert (sides[0] - sides[1]) / 2e-6 == pytest.approx(gradient[index].item(), abs=1e-6)


def test_published_cross_modal_term_is_a_constant():
    """−log N for every image and class, no gradient but for β: a learnable temperature."""
    made, inputs = module(official_code=True), features()
    found = made(*inputs)
    np.testing.assert_allclose(found.cross_modal.detach(), -math.log(N), atol=1e-12)
    torch.nn.functional.cross_entropy(found.logits, torch.tensor([0, 1, 2])).backward()
    for parameter in (made.alpha, made.omega, made.cross_scales):
        assert parameter.grad.abs().max() < 1e-10
    assert made.blend_logit.grad.abs() > 1e-4
    assert torch.equal(found.logits.argmax(dim=1), found.cosine.argmax(dim=1))


def test_sets_are_not():
    made, inputs = module(cross_modal="sets"), features()
    found = made(*inputs, image_set=features(1, rows=(B * 2,))[0].view(B, 2, C))
    assert found.cross_modal.detach().std(dim=1).mean() > 0.01
    found.logits.square().sum().backward()
    assert min(made.alpha.grad.abs().min(), made.omega.grad.abs().min(), made.cross_scales.grad.abs().min()) > 1e-6


def test_the_paper_form_depends_on_lengths_only():
    """Turning every aligned text as it likes, length kept, leaves d_CMA without normalising as it is."""
    images, texts = features(rows=(B, N))
    made = module()
    turned = torch.from_numpy(unit(np.random.default_rng(0).normal(size=(N, C)))) * texts.norm(dim=1, keepdim=True)
    _, _, before = made.score(images, texts)
    _, _, after = made.score(images, turned)
    torch.testing.assert_close(before, after)
    assert before.std(dim=1).min() > 1e-3


def rows_of(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


@pytest.mark.parametrize(("lam", "mu"), [((0.3, 2.0), (1.0, 1.0)), ((0.05, 0.5), (0.7, 1.3))])
def test_sets_are_ridge_problems_written_out(lam, mu):
    """Every vector of one side from the vectors of the other, by c × c matrices: IᵀI + λ in place of IIᵀ + λ."""
    images, texts = rows_of(2, 3, C), rows_of(4, 5, C, seed=1)
    texts[1, 3:] = 0  # a class with fewer descriptions
    of_text, of_image = set_residuals(torch.from_numpy(images), torch.from_numpy(texts), lam, mu)

    def left(target, rows, lam, mu):
        a = np.linalg.solve(rows @ rows.T + lam * np.eye(len(rows)), rows @ target)
        return np.sum((target - mu * rows.T @ a) ** 2) + lam * mu**2 * a @ a

    for i, S in enumerate(images):
        for j in range(4):
            T = texts[j][: 3 if j == 1 else 5]
            expected = np.mean([left(t, S, lam[0], mu[0]) for t in T])
            assert of_text[i, j].item() == pytest.approx(expected, abs=1e-9)
            inverse = np.linalg.inv(S.T @ S + lam[0] * np.eye(C))  # Woodbury: the same from the c × c side
            if mu[0] == 1:
                assert expected == pytest.approx(np.mean([lam[0] * t @ inverse @ t for t in T]), abs=1e-9)
            expected = np.mean([left(x, T, lam[1], mu[1]) for x in S])
            assert of_image[i, j].item() == pytest.approx(expected, abs=1e-9)


def test_a_set_of_one_carries_the_cosine_and_a_pair_does_not():
    images, texts = (torch.from_numpy(unit(rows_of(n, C, seed=n))) for n in (5, 7))
    of_text, of_image = set_residuals(images[:, None], texts[:, None], 0.5)
    expected = 1 - (images @ texts.T).square() / 1.5
    torch.testing.assert_close(of_text, expected)
    torch.testing.assert_close(of_image, expected)
    for part in pairwise_residuals(images, texts, 0.5):
        torch.testing.assert_close(part, part[:1, :1].expand_as(part))


def test_order_inside_sets_is_free():
    images, texts = torch.from_numpy(rows_of(2, 3, C)), torch.from_numpy(rows_of(4, 5, C, seed=1))
    for a, b in zip(set_residuals(images, texts, 0.1), set_residuals(images.flip(1), texts.flip(1), 0.1), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("which", ["image", "text", "none"])
def test_a_modality_that_is_not_aligned_is_as_prompted(which):
    made, (frozen_images, images, frozen_texts, texts) = module(same_modal=which), features()
    found = made(frozen_images, images, frozen_texts, texts)
    if which != "image":
        torch.testing.assert_close(found.images, torch.from_numpy(unit(images.numpy())))
    if which != "text":
        torch.testing.assert_close(found.texts, torch.from_numpy(unit(texts.numpy())))
    whole = module()(frozen_images, images, frozen_texts, texts)
    assert not torch.allclose(found.logits, whole.logits)
    of_images = 1 - torch.cosine_similarity(frozen_images, whole.images, dim=1).mean()
    expected = {"image": of_images, "text": whole.loss - of_images, "none": torch.zeros_like(of_images)}
    torch.testing.assert_close(found.loss, expected[which])


def test_without_cross_modal_the_score_is_the_cosine():
    found = module(cross_modal="none")(*features())
    torch.testing.assert_close(found.logits, 100 * found.cosine)
    assert found.cross_modal is None


def test_fixed_rows_make_the_score_of_an_image_independent_of_its_batch():
    inputs = features()
    one = [inputs[0][:1], inputs[1][:1], *inputs[2:]]
    fixed, published = module(image_rows=8), module()
    torch.testing.assert_close(fixed(*one).logits, fixed(*inputs).logits[:1])
    assert (published(*one).logits - published(*inputs).logits[:1]).abs().max() > 1e-4


def test_frozen_terms_average_three_logits():
    inputs = features()
    frozen_images, images, frozen_texts, texts = (torch.from_numpy(unit(x.numpy())) for x in inputs)
    expected = (module()(*inputs).logits + 100 * images @ frozen_texts.T + 100 * frozen_images @ texts.T) / 3
    torch.testing.assert_close(module(frozen_terms=True)(*inputs).logits, expected)


def test_mistakes_are_named():
    inputs = features()
    with pytest.raises(InputError, match="of one shape"):
        DAMAlignment()(inputs[0][:2], *inputs[1:])
    with pytest.raises(InputError, match="of one width"):
        set_residuals(torch.ones(2, 1, 3), torch.ones(2, 1, 4), 0.1)
    for option in ("same_modal", "text_map", "cross_modal"):
        with pytest.raises(UnknownNameError, match=option):
            DAMAlignment(**{option: "pairwize"})


@pytest.mark.parametrize("maps", ["learned", "sma", "cma"])
def test_trained_maps_take_the_place_of_the_closed_form(maps: str) -> None:
    """Table IX: one matrix for every feature of a modality, and one from each modality to the other."""
    made = module(maps=maps, width=C)
    frozen_images, images, frozen_texts, texts = map(unit, map(torch.Tensor.numpy, features()))
    value = {name: parameter.detach().numpy() for name, parameter in made.named_parameters()}
    found = made(*map(torch.from_numpy, (frozen_images, images, frozen_texts, texts)))
    if maps == "cma":
        f_A, f_D = found.images.detach().numpy(), found.texts.detach().numpy()
    else:
        rho = {name: value[f"{name}.rho"] for name in ("images", "texts")}
        f_A, f_D = (
            np.array([rho[name] * f + (1 - rho[name]) * value[f"{name}.map"].T @ f for f in rows])
            for name, rows in (("images", images), ("texts", texts))
        )
        np.testing.assert_allclose(found.images.detach(), f_A, atol=1e-12)
        np.testing.assert_allclose(found.texts.detach(), f_D, atol=1e-12)
    if maps != "sma":
        mu, (W_IT, W_TI) = np.exp(value["cross_scales"][1::2]), value["cross_maps"]
        residuals = [
            [
                value["alpha"] * np.sum((t - mu[0] * W_IT.T @ x) ** 2)
                + (1 - value["alpha"]) * np.sum((x - mu[1] * W_TI.T @ t) ** 2)
                for t in f_D
            ]
            for x in f_A
        ]
        rows = -value["omega"] * np.array(residuals)
        expected = rows - np.log(np.exp(rows).sum(axis=1, keepdims=True))
        np.testing.assert_allclose(found.cross_modal.detach(), expected, atol=1e-10)


def test_only_what_acts_is_trained() -> None:
    """Table X: HPT has none of the eleven scalars."""
    assert count_parameters(DAMAlignment()) == 11
    assert count_parameters(DAMAlignment(same_modal="none", cross_modal="none")) == 0
    assert count_parameters(DAMAlignment(same_modal="image", cross_modal="none")) == 2
    assert count_parameters(DAMAlignment(maps="learned", width=C)) == 11 - 2 + 4 * C**2
    with pytest.raises(InputError, match="residuals of pairs"):
        DAMAlignment(maps="cma", width=C, cross_modal="sets")
