"""Names: embedded, local, on the hub, or nothing that exists — each with its one sentence."""

from pathlib import Path

import huggingface_hub
import pytest
import torch
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError
from literal_clip import save_open_clip

import modalign as ma
from modalign.core.errors import InputError, UnavailableError, UnknownNameError
from modalign.encoders import KNOWN_ENCODERS, ClipEncoder, VisionEncoder
from modalign.encoders.catalog import DESCRIPTIONS, OPEN_CLIP_WEIGHTS, WEIGHTS, locate
from modalign.encoders.features.store import FeatureStore


@pytest.fixture
def hub(monkeypatch):
    """Replace the hub by a folder or an error; returns the requested names."""
    asked = []

    def answer(with_what):
        def snapshot_download(name, revision=None, allow_patterns=None):
            asked.append((name, revision, allow_patterns))
            result = with_what(name, revision) if callable(with_what) else with_what
            if isinstance(result, Exception):
                raise result
            return str(result)

        monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
        return asked

    return answer


def http_error(kind):
    from huggingface_hub.utils import httpx

    return kind("no", response=httpx.Response(404, request=httpx.Request("GET", "https://hub")))


@pytest.mark.parametrize(("name", "kind", "text"), [("tiny", ClipEncoder, True), ("tiny-vision", VisionEncoder, False)])
def test_embedded_names(name, kind, text):
    encoder = ma.load_encoder(name)
    assert isinstance(encoder, kind)
    assert encoder.has_text is text
    assert encoder.spec.dtype == "float32"


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [
        ("tinyy", "did you mean 'tiny'?"),
        ("tiny-vison", "did you mean 'tiny-vision'?"),
        ("clip-vit-base-patch16", "did you mean 'openai/clip-vit-base-patch16'?"),
        ("dinov2-base", "did you mean 'facebook/dinov2-base'?"),
        ("qqqq", "known: "),
        ("./nowhere/at/all", "There is no such folder."),
    ],
)
def test_names_that_are_nothing(name, suggestion):
    with pytest.raises(UnknownNameError) as caught:
        ma.load_encoder(name)
    assert suggestion in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_mistyped_path_is_compared_with_its_neighbors(checkpoint_copy):
    folder = checkpoint_copy("clip")
    with pytest.raises(UnknownNameError, match=f"did you mean '{folder}'"):
        ma.load_encoder(str(folder)[:-1])
    with pytest.raises(InputError, match=r"Expected the folder of an encoder .* got the file"):
        ma.load_encoder(folder / "model.safetensors")


def test_the_offline_message_has_the_files_and_the_folder(hub):
    hub(LocalEntryNotFoundError("offline"))
    with pytest.raises(UnavailableError, match=r"the hub cannot be reached; go online once, or download its folder"):
        ma.load_encoder("openai/clip-vit-base-patch16")
    with pytest.raises(UnavailableError):
        ma.load_encoder("someone/unheard-of")
    with pytest.raises(UnknownNameError, match="did you mean 'openai/clip-vit-base-patch16'"):
        ma.load_encoder("opnai/clip-vit-base-patch16")


def test_what_the_hub_refuses(hub):
    hub(http_error(RepositoryNotFoundError))
    with pytest.raises(UnknownNameError, match=r"did you mean 'facebook/dinov2-base'.*The hub has no public"):
        ma.load_encoder("facebook/dinov2-bass")
    hub(http_error(GatedRepoError))
    with pytest.raises(UnavailableError, match="is gated: accept its license"):
        ma.load_encoder("facebook/dinov3-vits16-pretrain-lvd1689m")
    hub(http_error(HfHubHTTPError))
    with pytest.raises(UnavailableError):
        ma.load_encoder("facebook/dinov2-base")


def test_a_hub_name_is_fetched_without_code_and_pickles(hub, checkpoints):
    asked = hub(checkpoints("clip"))
    encoder = ma.load_encoder("someone/some-clip@v1.0", device="cpu")
    assert encoder.name == "someone/some-clip@v1.0"
    assert asked == [("someone/some-clip", "v1.0", list(files)) for files in (DESCRIPTIONS, WEIGHTS)]
    for forbidden in ("pytorch_model.bin", "modeling.py", "model.onnx", "weights.pt", "a/model.safetensors"):
        patterns = (*DESCRIPTIONS, *WEIGHTS, *OPEN_CLIP_WEIGHTS)
        assert not any(Path(forbidden).match(p) and "/" not in forbidden for p in patterns), forbidden


def test_pickled_repositories_are_taken_from_the_hubs_own_conversion(hub, checkpoint_copy, monkeypatch):
    converted, main = checkpoint_copy("clip"), None
    main = converted.parent / "snapshots" / "main"
    main.mkdir(parents=True)
    (main / "config.json").write_text("{}")
    pull = type("Pull", (), {"title": "Adding `safetensors` variant of this model", "num": 7})
    monkeypatch.setattr(huggingface_hub, "get_repo_discussions", lambda *_, **__: [pull])
    asked = hub(lambda name, revision: converted if revision == "refs/pr/7" else main)
    assert locate("someone/old") == converted
    assert [revision for _, revision, _ in asked] == [None, None, "refs/pr/7"]
    # Once both snapshots are there, no network is needed any more.
    later = main.parent / "pr7"
    converted.rename(later)
    monkeypatch.setattr(huggingface_hub, "get_repo_discussions", lambda *_, **__: pytest.fail("asked the hub"))
    assert locate("someone/old") == later


@pytest.mark.parametrize(
    ("name", "repository", "weights"),
    [
        ("RN50", "timm/resnet50_clip.openai", OPEN_CLIP_WEIGHTS),
        ("RN101", "timm/resnet101_clip.openai", OPEN_CLIP_WEIGHTS),
        ("hf-hub:timm/resnet50_clip.openai", "timm/resnet50_clip.openai", OPEN_CLIP_WEIGHTS),
        ("ViT-B/16", "openai/clip-vit-base-patch16", WEIGHTS),
    ],
)
def test_openais_names_are_fetched_in_the_layout_of_their_repository(
    name, repository, weights, hub, checkpoints, tmp_path
):
    folder = checkpoints("clip") if weights is WEIGHTS else save_open_clip(tmp_path / "vit", "vit")
    asked = hub(folder)
    assert ma.load_encoder(name, device="cpu", cache=False).name == name
    assert asked == [(repository, None, list(files)) for files in (DESCRIPTIONS, weights)]


def test_only_the_weights_of_one_layout_are_fetched(hub, tmp_path, checkpoint_copy):
    """Where both layouts are described that of Hugging Face, and open_clip's if the other is not there."""
    both = checkpoint_copy("clip")
    (both / "open_clip_config.json").write_text("{}")
    asked = hub(both)
    assert locate("someone/both") == both
    assert [files for _, _, files in asked] == [list(DESCRIPTIONS), list(WEIGHTS)]
    (both / "model.safetensors").unlink()
    asked.clear()

    def fetched(name, revision):
        if len(asked) == 3:
            (both / "open_clip_model.safetensors").touch()
        return both

    asked = hub(fetched)
    assert locate("someone/both") == both
    assert [files for _, _, files in asked] == [list(DESCRIPTIONS), list(WEIGHTS), list(OPEN_CLIP_WEIGHTS)]


def test_a_mistyped_name_of_openai_is_suggested():
    with pytest.raises(UnknownNameError, match="did you mean 'RN50x4'"):
        ma.load_encoder("RN50_x4")


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"device": "gpu9"}, "Expected a device that this machine has"),
        ({"device": "meta:x"}, "Expected a device"),
        ({"dtype": "float8"}, "Unknown compute type 'float8'; did you mean"),
        ({"dtype": torch.float64}, "Unknown compute type 'float64'"),
    ],
)
def test_options_are_checked_before_anything_is_loaded(options, match):
    with pytest.raises(InputError, match=match):
        ma.load_encoder("no-such-encoder", **options)


def test_where_the_cache_is(tmp_path, monkeypatch, checkpoints):
    folder = checkpoints("clip")
    monkeypatch.setenv("MODALIGN_CACHE", str(tmp_path / "chosen"))
    assert ma.load_encoder(folder, device="cpu").store.root == tmp_path / "chosen"
    assert ma.load_encoder(folder, device="cpu", cache=tmp_path / "other").store.root == tmp_path / "other"
    assert ma.load_encoder(folder, device="cpu", cache=False).store is None
    store = FeatureStore(tmp_path / "mine")
    assert ma.load_encoder(folder, device="cpu", cache=store).store is store
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="Expected a folder for the feature cache, got the file"):
        ma.load_encoder(folder, device="cpu", cache=tmp_path / "file")
    monkeypatch.setenv("MODALIGN_CACHE", str(tmp_path / "chosen"))
    monkeypatch.setenv("MODALIGN_CACHE", str(tmp_path / "file" / "below"))
    with pytest.warns(UserWarning, match=r"to be writable, got: Not a directory\. Nothing is kept in a cache"):
        assert ma.load_encoder(folder, device="cpu").store is None


def test_known_names_are_described():
    assert list(KNOWN_ENCODERS)[:2] == ["tiny", "tiny-vision"]
    assert all(description and "\n" not in description for description in KNOWN_ENCODERS.values())
