"""Features that are mapped: the same as those that are loaded, and damage is one sentence."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

import modalign as ma
from modalign.core.errors import InputError
from modalign.core.features import Quarantined

rng = np.random.default_rng(0)


def features(dtype: type = np.float16, n: int = 40) -> ma.Features:
    vectors = rng.normal(size=(n, 6)).astype(dtype)
    return ma.Features(
        vectors,
        ids=[f"bild {i}\n雪.png" for i in range(n)],
        labels=np.arange(n) % 3 - 1,
        class_names=["ant", "bee"],
        spec=ma.EncoderSpec("mine", "f" * 64, 6, "bfloat16", 12.5),
        quarantined=(Quarantined("x.png", "truncated"),),
        parts=("train", "test") * (n // 2),
    )


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_what_is_mapped_is_what_was_saved(tmp_path: Path, dtype: type) -> None:
    saved = features(dtype)
    path = saved.save(tmp_path / "features.safetensors")
    for read in (ma.Features.load, ma.Features.open):
        mapped = read(path)
        assert isinstance(mapped.vectors, np.memmap)
        assert mapped.vectors.dtype == dtype
        assert not mapped.vectors.flags.writeable
        for name in ("vectors", "labels"):
            assert (getattr(mapped, name) == getattr(saved, name)).all()
        for name in ("ids", "class_names", "spec", "quarantined", "parts"):
            assert getattr(mapped, name) == getattr(saved, name)
    mapped.select([3, 1]).save(tmp_path / "rows.safetensors")
    assert (ma.Features.load(tmp_path / "rows.safetensors").vectors == saved.vectors[[3, 1]]).all()


def test_the_package_safetensors_reads_the_same(tmp_path: Path) -> None:
    saved = features()
    found = load_file(saved.save(tmp_path / "features.safetensors"))
    assert (found["vectors"] == saved.vectors).all()
    assert (found["labels"] == saved.labels).all()


def test_other_types_become_float32_and_tokens_are_kept(tmp_path: Path) -> None:
    tokens = rng.normal(size=(4, 2, 3))
    saved = ma.Features(np.eye(4, 3), tokens=tokens)
    found = ma.Features.load(saved.save(tmp_path / "features.safetensors"))
    assert found.vectors.dtype == np.float32
    assert np.allclose(found.tokens, tokens)
    assert not ma.Features.load(ma.Features(np.empty((0, 3))).save(tmp_path / "none.safetensors")).ids


def test_both_forms_hold_the_same(tmp_path: Path) -> None:
    saved = features(np.float32)
    mapped = ma.Features.load(saved.save(tmp_path / "a.safetensors"))
    loaded = ma.Features.load(saved.save(tmp_path / "a.npz"))
    assert (mapped.vectors == loaded.vectors).all()
    assert (mapped.ids, mapped.spec, mapped.parts) == (loaded.ids, loaded.spec, loaded.parts)
    with pytest.raises(InputError, match=r"ending in \.npz or \.safetensors, got 'a\.pt'"):
        saved.save(tmp_path / "a.pt")


def test_every_truncation_and_header_that_lies_is_refused(tmp_path: Path) -> None:
    path = features().save(tmp_path / "features.safetensors")
    whole = path.read_bytes()
    length = int.from_bytes(whole[:8], "little")
    for end in (0, 3, 8, 20, 8 + length, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:end])
        with pytest.raises(InputError):
            ma.Features.load(path)
    header = json.loads(whole[8 : 8 + length])
    lies = [
        {"vectors": header["vectors"] | {"shape": [40, 7]}},
        {"vectors": header["vectors"] | {"shape": [-40, -6]}},
        {"vectors": header["vectors"] | {"data_offsets": [0, 10**15]}},
        {"vectors": header["vectors"] | {"dtype": "BF16"}},
        {"vectors": header["labels"]},
        {"labels": header["ids"]},
        {"ids": header["labels"]},
        {"__metadata__": {"format": "another"}},
        {"__metadata__": [1]},
    ]
    for lie in lies:
        text = json.dumps(header | lie).encode()
        path.write_bytes(len(text).to_bytes(8, "little") + text + whole[8 + length :])
        with pytest.raises(InputError):
            ma.Features.load(path)


def test_vectors_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    saved = features(np.float32)
    saved.vectors[7, 2] = np.nan
    with pytest.raises(InputError, match="Expected finite vectors"):
        ma.Features.load(saved.save(tmp_path / "features.safetensors"))
