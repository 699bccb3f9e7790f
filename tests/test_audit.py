"""The audit: label errors by the rule of Bayes, planted copies, outliers and bad pictures, and the command."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from modalign import cli, load_encoder
from modalign.audit.audit_findings import KINDS
from modalign.audit.auditing import audit_images
from modalign.audit.label_errors import probable_label_errors
from modalign.audit.label_noise import fit_label_noise
from modalign.audit.outliers import neighbor_similarity, outlying
from modalign.audit.picture_quality import measure_quality
from modalign.core.errors import InputError, UnknownNameError
from modalign.core.features import Features
from modalign.data.blobs import BytesBlob
from modalign.data.digits import load_digits
from modalign.data.items import Items

WRONG = 15  # of 500 labels


@pytest.fixture(scope="module")
def digits() -> Items:
    return load_digits().select(range(500))


@pytest.fixture(scope="module")
def vectors(digits: Items) -> Features:
    return load_encoder("tiny", cache=False).embed_images(digits)


def replaced(rate: float, seed: int, *, next_one: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logits, labels drawn from their softmax of which a share was replaced, and which were."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(4000, 5)) * 4
    true = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
    wrong = rng.random(4000) < rate
    return logits, np.where(wrong, (true + (1 if next_one else rng.integers(1, 5, 4000))) % 5, true), wrong


@pytest.mark.parametrize("next_one", [False, True])
@pytest.mark.parametrize("rate", [0.0, 0.03, 0.2])
def test_the_noise_of_labels_is_that_of_the_highest_likelihood(rate: float, next_one: bool) -> None:
    """The planted numbers are found, whatever the scale of the scores, and near ones are not more likely."""
    logits, labels, _ = replaced(rate, 0, next_one=next_one)
    found = fit_label_noise(7 * logits, labels)
    assert found.rate == pytest.approx(rate, abs=0.015)
    assert found.temperature == pytest.approx(7, rel=0.1)
    np.testing.assert_allclose(found.matrix.sum(axis=1), 1)
    if rate > 0.1:
        share = found.matrix[np.arange(5), (np.arange(5) + 1) % 5]
        np.testing.assert_allclose(share, rate if next_one else rate / 4, atol=0.05)

    def likelihood(temperature: float, share: float) -> float:
        p = np.exp(logits * 7 / temperature)
        p /= p.sum(axis=1, keepdims=True)
        apart = found.matrix * (1 - np.eye(5)) / found.rate  # q
        mixed = share * apart + (1 - share) * np.eye(5)
        return float(np.log((p @ mixed)[np.arange(len(labels)), labels]).mean())

    best = likelihood(found.temperature, found.rate)
    for factor, step in ((1.05, 0), (0.95, 0), (1, 0.01), (1, -0.01 if rate else 0.003)):
        assert likelihood(found.temperature * factor, found.rate + step) < best


def test_labels_are_reported_by_the_rule_of_bayes() -> None:
    """The posterior of an error against a loop over the true classes."""
    logits, labels, wrong = replaced(0.1, 1)
    found, noise = probable_label_errors(labels, logits), fit_label_noise(logits, labels)
    expected = []
    for i, (z, y) in enumerate(zip(logits / noise.temperature, labels, strict=True)):
        p = np.exp(z) / np.exp(z).sum()
        joint = [p[j] * noise.matrix[j, y] for j in range(5)]
        if joint[y] < 0.5 * sum(joint) and p.argmax() != y:
            expected.append(i)
    assert sorted(found.rows) == expected
    assert wrong[found.rows].mean() > 0.85
    assert (np.diff(found.self_confidence) >= 0).all()
    logits, labels, _ = replaced(0.0, 2)
    assert not len(probable_label_errors(labels, logits).rows)


def test_flipped_labels_are_found(vectors: Features) -> None:
    rng = np.random.default_rng(0)
    wrong = rng.choice(len(vectors), WRONG, replace=False)
    labels = vectors.labels.copy()
    labels[wrong] = (labels[wrong] + rng.integers(1, 10, WRONG)) % 10
    found = audit_images(replace(vectors, labels=labels), checks=["labels"]).of("label")
    hits = {f.ids[0] for f in found} & {vectors.ids[i] for i in wrong}
    assert len(hits) >= 0.8 * WRONG
    assert len(hits) >= 0.9 * len(found)
    true = dict(zip(vectors.ids, vectors.labels, strict=True))
    right = [f.suggested == vectors.class_names[true[f.ids[0]]] for f in found if f.ids[0] in hits]
    assert sum(right) >= 0.9 * len(hits)


def test_a_class_with_fewer_labels_than_folds_is_not_judged(vectors: Features) -> None:
    few = np.concatenate([np.flatnonzero(vectors.labels == k)[: 3 if k == 9 else 30] for k in range(10)])
    labels = vectors.labels.copy()
    labels[few[0]] = 9
    part = replace(vectors, labels=labels).select(few)
    assert "nine" not in {f.label for f in audit_images(part, checks=["labels"]).of("label")}
    audit = audit_images(vectors.select(few[:33]), checks=["labels"])
    assert "at least 5 labeled images in each of 2 classes" in audit.skipped["labels"]


def jpeg(image: Image.Image) -> bytes:
    file = BytesIO()
    image.save(file, "JPEG", quality=95)
    return file.getvalue()


def test_planted_copies_are_all_found_and_nothing_else(digits: Items) -> None:
    parts = np.array(["test" if i % 4 == 0 else "train" for i in range(len(digits))])
    blobs, ids, labels, where = [*digits.blobs], [*digits.ids], [*digits.labels], [*parts]
    planted: dict[frozenset[str], set[str]] = {}
    for i in range(0, 60, 2):
        kind = ("duplicate", "leak", "contradiction")[i // 2 % 3]
        blobs.append(BytesBlob(jpeg(digits.open(i)) if i % 4 else digits.read(i)))
        ids.append(f"copy/{i}")
        labels.append((digits.labels[i] + (kind == "contradiction")) % 10)
        where.append(parts[i] if kind != "leak" else {"test": "train", "train": "test"}[parts[i]])
        planted[frozenset((digits.ids[i], ids[-1]))] = {kind}
    items = replace(
        digits, ids=tuple(ids), blobs=tuple(blobs), labels=np.array(labels), parts=np.array(where), division="a column",
        given=(),
    )  # fmt: skip
    audit = audit_images(items, encoder=load_encoder("tiny", cache=False), checks=["copies"])
    found: dict[frozenset[str], set[str]] = {}
    for finding in audit.findings:
        found.setdefault(frozenset(finding.ids), set()).add(finding.kind)
    assert found == planted
    assert audit.parts == {"train": where.count("train"), "test": where.count("test")}
    assert [f.kind for f in audit.findings] == sorted((f.kind for f in audit.findings), key=list(KINDS).index)
    exact = [f for f in audit.findings if int(f.ids[1].removeprefix("copy/")) % 4 == 0]
    assert exact
    assert all("the same bytes" in f.detail for f in exact)
    assert not any("the same bytes" in f.detail for f in audit.findings if f not in exact)


def test_neighbor_similarity_is_the_mean_of_the_nearest(vectors: Features) -> None:
    part = vectors.select(range(80))
    found = neighbor_similarity(part.vectors, part.labels, 3)
    for i in range(80):
        others = [j for j in range(80) if j != i and part.labels[j] == part.labels[i]]
        cosines = sorted((float(part.vectors[i] @ part.vectors[j]) for j in others), reverse=True)
        assert found[i] == pytest.approx(np.mean(cosines[:3]), abs=1e-5)
    assert np.isnan(neighbor_similarity(part.vectors[:1], part.labels[:1])).all()


def test_vectors_of_nothing_are_outliers(vectors: Features) -> None:
    noise = np.random.default_rng(0).normal(size=(5, vectors.vectors.shape[1])).astype(np.float32)
    noise /= np.linalg.norm(noise, axis=1, keepdims=True)
    mixed = np.concatenate([vectors.vectors, noise])
    rows, similarity = outlying(mixed, np.concatenate([vectors.labels, np.arange(5)]))
    assert {*range(500, 505)} <= set(rows.tolist())
    assert len(rows) <= 5 + 0.02 * 500
    assert (similarity[:5] < similarity[5:].min(initial=1.0)).all()


def test_bad_pictures_are_distinguished_from_good_ones() -> None:
    rng = np.random.default_rng(0)
    blocks = Image.fromarray(rng.integers(0, 255, (12, 12, 3), dtype=np.uint8)).resize(
        (240, 240), Image.Resampling.NEAREST
    )
    cases = {
        (): blocks,
        ("blurred",): blocks.filter(ImageFilter.GaussianBlur(12)),
        ("dark",): blocks.point(lambda v: v // 5),
        ("bright",): blocks.point(lambda v: 250 + v // 52),
        ("tiny",): blocks.resize((20, 40)),
    }
    for expected, picture in cases.items():
        assert tuple(kind for kind, *_ in measure_quality(picture).troubles()) == expected


@pytest.fixture
def folder(photos: Path) -> Path:
    """Photos in two parts with a leak, a contradiction, a damaged file, and names of markup."""
    for part in ("train", "test"):
        (photos / part).mkdir()
    for shape in ("disc", "square"):
        shutil.copytree(
            photos / shape, photos / "test" / f"<b>{shape}", ignore=lambda _, names: [n for n in names if n > "3"]
        )
        for i in range(4):
            (photos / shape / f"{i}.png").unlink()
        (photos / shape).rename(photos / "train" / f"<b>{shape}")
    shutil.copy(photos / "train" / "<b>disc" / "5.png", photos / "test" / "<b>disc" / "leak.png")
    shutil.copy(photos / "train" / "<b>disc" / "6.png", photos / "train" / "<b>square" / "wrong.png")
    (photos / "train" / "<b>disc" / "broken.png").write_bytes(b"no picture")
    return photos


def test_the_command_prints_writes_and_sets_the_exit_code(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture, own_cache: None
) -> None:
    page, out = tmp_path / "audit.html", tmp_path / "audit.json"
    given = ["audit", str(folder), "--page", str(page), "--out", str(out)]
    assert cli.run(given) == 0
    printed = capsys.readouterr().out
    assert printed.endswith(f"page: {page}\n")
    assert cli.run([*given, "--fail-on", "leak", "--json"]) == 1
    content = json.loads(capsys.readouterr().out)
    assert content == json.loads(out.read_text(encoding="utf-8"))
    assert content["counts"]["leak"] == content["counts"]["contradiction"] == content["counts"]["unreadable"] == 1
    assert cli.run([*given, "--fail-on", "bright"]) == 0
    for finding in content["findings"][:2]:
        assert all(name in printed for name in finding["ids"])
    html = page.read_text(encoding="utf-8")
    assert "<b>disc" not in html
    assert "&lt;b&gt;disc" in html
    assert not re.search(r"""(src|href)=(?!["']data:)""", html)
    assert html.count("data:image") >= 4


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--check", "lables"), "did you mean 'labels'"),
        (("--fail-on", "leek"), "did you mean 'leak'"),
        (("--page", "a.txt"), "ends in .html"),
        (("--near-identical", "1.5"), "--near-identical as a cosine"),
        (("--method", "coop"), "--method as a method on vectors"),
        (("--method", "cmn"), "did you mean 'cmm'"),
    ],
)
def test_bad_options_are_refused_in_one_sentence(
    options: tuple[str, ...], words: str, photos: Path, capsys: pytest.CaptureFixture, own_cache: None
) -> None:
    assert cli.run(["audit", str(photos), *options]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


def test_features_are_audited_without_pictures(
    vectors: Features, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    path = vectors.select(range(100)).save(tmp_path / "digits.npz")
    assert cli.run(["audit", str(path), "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["images"] == 100
    assert set(content["skipped"]) == {"pictures"}
    assert cli.run(["audit", str(path), "--classes", "names.txt"]) == 2
    assert "--classes with images" in capsys.readouterr().err


def test_an_unknown_check_is_named() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'copies'"):
        audit_images(Features(np.eye(3)), checks=["copis"])


def test_vectors_that_are_not_finite_are_not_passed_for_clean() -> None:
    for odd in (np.nan, np.inf):
        with pytest.raises(InputError, match="finite vectors"):
            audit_images(Features(np.array([[1.0, 0], [odd, 1]])))
