"""Image-only networks: the class token of transformers' own model, patches without class token and registers."""

import pytest
import torch
from checkpoints import picture
from transformers import AutoModel

import modalign as ma
from modalign.core.errors import InputError

KINDS = ["dinov2", "dinov2_with_registers", "dinov3_vit", "vit"]


@pytest.mark.parametrize("kind", KINDS)
def test_vectors_and_tokens_are_those_of_transformers(kind, checkpoints):
    folder = checkpoints(kind)
    encoder = ma.load_encoder(folder, device="cpu")
    images = [picture(i, 60 + 9 * i, 70) for i in range(5)]
    features = encoder.embed_images(images, tokens=True)

    model = AutoModel.from_pretrained(folder, **({"add_pooling_layer": False} if kind == "vit" else {})).eval()
    pixels = encoder.preprocessing.inputs(
        [encoder.preprocessing.prepare(image) for image in images], torch.device("cpu"), torch.float32
    )["pixel_values"]
    with torch.inference_mode():
        hidden = model(pixel_values=pixels).last_hidden_state
    before = 5 if "registers" in kind or kind == "dinov3_vit" else 1
    assert hidden.shape[1] == before + 16  # 64 px in patches of 16

    def unit(x):
        return torch.nn.functional.normalize(x, dim=-1).numpy()

    assert features.tokens.shape == (5, 16, 32)
    torch.testing.assert_close(torch.from_numpy(features.vectors), torch.from_numpy(unit(hidden[:, 0])))
    torch.testing.assert_close(torch.from_numpy(features.tokens), torch.from_numpy(unit(hidden[:, before:])))
    torch.testing.assert_close(
        torch.from_numpy(encoder.embed_images(images).vectors.copy()), torch.from_numpy(features.vectors)
    )


def test_has_no_text_and_reports_it(checkpoints):
    encoder = ma.load_encoder(checkpoints("dinov2"), device="cpu")
    assert not encoder.has_text
    assert encoder.logit_scale is None
    assert "image only" in repr(encoder)
    with pytest.raises(InputError, match="no text tower"):
        encoder.embed_texts(["a cat"])


def test_a_convolutional_network_works_by_its_own_pooling(tmp_path):
    from transformers import ResNetConfig, ResNetModel

    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
    ResNetModel(config).save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(
        '{"image_processor_type": "ViTImageProcessor", "size": {"height": 32, "width": 32}}'
    )
    encoder = ma.load_encoder(tmp_path, device="cpu")
    assert encoder.embed_images([picture(0)]).vectors.shape == (1, 16)
    with pytest.raises(InputError, match="Patch tokens of a 'resnet'"):
        encoder.embed_images([picture(0)], tokens=True)
