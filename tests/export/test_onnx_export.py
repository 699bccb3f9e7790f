"""An exported folder answers as the classifier, without torch, or there is none."""

from __future__ import annotations

import base64
import importlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from checkpoints import picture, save_checkpoint
from PIL import Image

from modalign import Classifier, InputError, adapt, export_onnx, load_encoder
from modalign.cli import run
from modalign.core.errors import UndecodableError
from modalign.data.decoding.decode import decode
from modalign.data.digits import load_digits
from modalign.export import onnx_folder
from modalign.export.graph import in_float32, input_names, p_values_by_counts, record
from modalign.export.onnx_folder import Export
from modalign.export.parity import TOLERANCE, Parity
from modalign.linalg.rejection import Rejection, confidence_score
from modalign.methods import METHODS, method_class
from modalign.methods.contract.vectors import VectorMethod
from modalign.model.scoring import score, softmax
from modalign.testing.subject import few_shot_problem

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

SIZES = [(80, 60), (33, 200), (500, 301), (32, 32), (20, 20), (64, 33)]
WITHOUT_TORCH = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "modalign", "transformers", "sklearn"):
            raise ImportError(name)
sys.meta_path.insert(0, Refuse())
import predict
predict.main()
"""


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("photos")
    paths = [folder / f"{i}.png" for i in range(len(SIZES))]
    for i, (path, size) in enumerate(zip(paths, SIZES, strict=True)):
        picture(i, *size).save(path)
    return paths


def run_graph(path: Path | bytes, pixels: dict[str, np.ndarray]) -> np.ndarray:
    source = str(path) if isinstance(path, Path) else path
    return onnxruntime.InferenceSession(source).run(["probabilities"], pixels)[0]


def test_the_gate_found_agreement_and_the_graph_is_valid(exported: Export) -> None:
    assert exported.parity.images == 60
    assert exported.parity.max_difference <= TOLERANCE
    assert exported.parity.decisions == exported.resized_by_pillow.decisions == 0
    assert exported.parity.labeled == 50  # ten of the sixty served to fit
    assert exported.parity.accuracy == exported.parity.accuracy_before
    assert exported.int8 is not None
    assert exported.int8.max_difference > exported.parity.max_difference
    assert exported.int8_megabytes is not None
    assert exported.int8_megabytes < exported.megabytes / 2
    onnx.checker.check_model(str(exported.folder / "model.onnx"), full_check=True)
    assert [p.name for p in exported.folder.parent.iterdir()] == ["model"]  # no temporary folder is left


@pytest.mark.parametrize("n", [1, 2, 5, 33])
def test_any_number_of_rows_gives_the_probabilities_of_the_classifier(
    exported: Export, classifier: Classifier, n: int
) -> None:
    items = load_digits().select(range(200, 200 + n))
    step = classifier.encoder.preprocessing  # type: ignore[union-attr]
    pixels = np.stack([step.prepare(items.open(i)) for i in range(n)])
    found = run_graph(exported.folder / "model.onnx", {"pixels": pixels})
    assert np.abs(found - classifier.predict(items).probabilities).max() < 1e-5


@pytest.mark.parametrize("kind", ["probability", "margin", "score"])
def test_p_values_in_the_graph_are_those_of_the_rejection(kind: str) -> None:
    logits = torch.randn(20, 4, generator=torch.Generator().manual_seed(0))
    own = torch.tensor([confidence_score(row[None].double(), kind).item() for row in logits])
    reference = tuple(sorted([*own[:5].double().tolist(), *torch.linspace(-1, 2, 30).tolist()]))  # some are equal
    rejection = Rejection(kind, reference)
    found = p_values_by_counts(rejection, logits.double().softmax(dim=1), logits.double())
    assert torch.allclose(found.double(), rejection.p_values(logits), atol=1e-6)


def test_no_path_of_this_machine_is_in_the_graph(exported: Export) -> None:
    content = (exported.folder / "model.onnx").read_bytes()
    assert b".py" not in content
    assert str(Path(onnx_folder.__file__).parent).encode() not in content


def test_metadata_describes_the_graph(exported: Export, classifier: Classifier) -> None:
    session = onnxruntime.InferenceSession(str(exported.folder / "model.onnx"))
    known = session.get_modelmeta().custom_metadata_map
    assert json.loads(known["classes"]) == list(classifier.class_names)
    assert known["fingerprint"] == classifier.encoder.spec.fingerprint
    assert float(known["temperature"]) == classifier.temperature
    assert classifier.rejection is not None
    assert json.loads(known["rejection"])["reference"] == list(classifier.rejection.reference)
    assert session.get_inputs()[0].shape[1:] == [32, 32, 3]
    assert session.get_inputs()[0].type == "tensor(uint8)"


def test_predict_py_answers_in_a_process_without_torch(
    exported: Export, classifier: Classifier, photos: list[Path]
) -> None:
    out = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, *map(str, photos), "--reject", "0.05"],
        cwd=exported.folder, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    expected = classifier.predict(photos, reject=0.05)
    for line, one in zip(out.splitlines(), expected, strict=True):
        photo, name, probability = line.split("\t")
        assert (photo, name) == (str(one.id), one.name) or name == one.name
        assert float(probability) == pytest.approx(one.probability, abs=1e-3)


def test_predict_py_goes_on_after_a_file_that_is_no_photo(exported: Export, photos: list[Path], tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("no photo")
    files = [photos[0], tmp_path / "absent.jpg", tmp_path / "text.jpg", photos[1]]
    done = subprocess.run([sys.executable, "predict.py", *files], cwd=exported.folder, capture_output=True, text=True)
    assert done.returncode == 1
    assert [line.split("\t")[0] for line in done.stdout.splitlines()] == [str(photos[0]), str(photos[1])]
    said = done.stderr.splitlines()
    assert len(said) == 2
    for line, file in zip(said, files[1:3], strict=True):
        assert line.startswith(f"error: Expected a photo, got '{file}'")


def test_predict_py_refuses_nothing_without_a_reference(exported: Export, photos: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(exported.folder, folder)
    graph = onnx.load(folder / "model.onnx")
    del graph.graph.output[2:]  # the p-values
    onnx.save(graph, folder / "model.onnx")
    command = [sys.executable, "predict.py", str(photos[0]), "--reject", "0.05"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 2
    assert "Expected no --reject" in done.stderr
    assert done.stdout == ""


@pytest.fixture
def predict(exported: Export, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The program of the exported folder, which imports the files beside it."""
    monkeypatch.syspath_prepend(exported.folder)
    yield importlib.import_module("predict")
    for name in ("predict", "photo_input", "sniff"):
        sys.modules.pop(name, None)


def test_predict_py_reads_the_formats_that_the_library_reads(predict: ModuleType, tmp_path: Path) -> None:
    Image.init()
    refused = set()
    for name in sorted(Image.SAVE):
        path = tmp_path / f"photo.{name}"
        with suppress(Exception):  # some formats cannot be written here
            picture(3, 48, 48).save(path, format=name)
        if not path.is_file() or not path.stat().st_size:
            continue
        try:
            decode(path.read_bytes())
        except UndecodableError as error:
            refused.add(name)
            with pytest.raises(ValueError, match=re.escape(str(error))):
                predict.open_photo(path)
        else:
            assert predict.open_photo(path).size == (48, 48)
    assert {"TGA", "EPS", "PCX", "PDF"} <= refused
    assert not {"JPEG", "PNG", "TIFF"} & refused


def test_predict_py_reads_photos_as_the_library(predict: ModuleType, classifier: Classifier, tmp_path: Path) -> None:
    base, odd = picture(3, 90, 70), []
    exif = Image.Exif()
    exif[0x0112] = 6
    base.save(tmp_path / "turned.jpg", exif=exif, quality=95)
    clear = base.convert("RGBA")
    clear.putalpha(Image.linear_gradient("L").resize(base.size))
    clear.save(tmp_path / "clear.png")
    base.convert("P").save(tmp_path / "palette.gif")
    gray = np.asarray(base.convert("L"))
    Image.fromarray(gray.astype(np.uint16) * 257).save(tmp_path / "deep.png")
    for name, values in {"real": gray / 255, "signed": gray * 9.0 - 700, "bytes": gray * 1.0}.items():
        Image.fromarray(values.astype(np.float32)).save(tmp_path / f"{name}.tif")
    Image.fromarray(gray.astype(np.int32) * 200).save(tmp_path / "whole.tif")
    Image.fromarray(gray.astype(np.uint16) * 257).save(tmp_path / "turned.tif", tiffinfo={0x0112: 6})
    odd = sorted(tmp_path.iterdir())
    model = predict.Model()
    found = model([predict.open_photo(path) for path in odd])["probabilities"]
    assert np.abs(found - classifier.predict_proba(odd)).max() < 2e-3
    base.convert("LAB").save(tmp_path / "lab.tif")
    with pytest.raises(ValueError, match="LAB is not supported"):
        predict.open_photo(tmp_path / "lab.tif")


def test_node_answers_as_python(
    exported: Export, classifier: Classifier, photos: list[Path], node_modules: Path, tmp_path: Path
) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("predict.js is run in Node, which is not on this machine")
    pictures = [Image.open(path).convert("RGBA") for path in photos]
    raw = [
        {"width": p.width, "height": p.height, "data": base64.b64encode(p.tobytes()).decode("ascii")} for p in pictures
    ]
    (tmp_path / "raw.json").write_text(json.dumps(raw))
    program = Path(__file__).with_name("use_exported.mjs")
    command = [node, program, exported.folder, node_modules.resolve(), tmp_path / "raw.json"]
    found = json.loads(subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True).stdout)
    expected = classifier.predict(photos)
    assert [one["name"] for one in found] == list(expected.names)
    assert np.abs(np.array([one["probabilities"] for one in found]) - expected.probabilities).max() < 1e-3
    assert classifier.rejection is not None


@pytest.mark.parametrize(("difference", "decisions"), [(2e-4, 0), (0.0, 1), (float("nan"), 0)])
def test_another_answer_is_refused(difference: float, decisions: int) -> None:
    with pytest.raises(InputError, match="nothing was exported"):
        Parity(10, difference, decisions, 0, None, None).require()
    Parity(10, 9e-5, 0, 0, None, None).require()


def test_a_graph_that_answers_otherwise_leaves_no_folder(
    exported: Export, classifier: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph, step = onnx.load(exported.folder / "model.onnx"), classifier.encoder.preprocessing  # type: ignore[union-attr]
    monkeypatch.setattr(onnx_folder, "record", lambda model: (graph, [step]))
    colder = replace(classifier, temperature=1.5 * classifier.temperature)
    with pytest.raises(InputError, match="Expected the graph to answer as the classifier"):
        export_onnx(colder, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def _fitted(name: str) -> VectorMethod:
    X, y, Xv, yv, _, _, text = few_shot_problem()
    method = method_class(name)(**({"candidates": ["gda", "tip_adapter"]} if name == "auto" else {}))
    assert isinstance(method, VectorMethod)
    return method.fit(X, y, text=text, validation=(Xv, yv))


OWN_HEADS = [name for name in METHODS if "head" in vars(method_class(name))]


@pytest.mark.parametrize("name", [*OWN_HEADS, "tip_adapter_f"])
def test_a_head_of_its_own_gives_the_scores(name: str) -> None:
    method, X = _fitted(name), torch.from_numpy(few_shot_problem().Xt)
    with torch.no_grad():
        found, expected = method.head()(X), method.scores(X)
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


def test_joined_encoders_become_one_graph_with_an_input_each(tmp_path: Path) -> None:
    vision, text = (str(save_checkpoint(tmp_path / kind, kind)) for kind in ("dinov2", "siglip"))
    digits, test = load_digits().select(range(40)), load_digits().select(range(40, 47))
    model = adapt(digits, method="gpua", encoder=load_encoder(f"{vision}+{text}"), mirror=False, steps=5)
    plain = in_float32(model)
    proto, steps = record(plain)
    pixels = {
        own: np.stack([step.prepare(test.open(i)) for i in range(7)])
        for own, step in zip(input_names(steps), steps, strict=True)
    }
    assert list(pixels) == ["pixels", "pixels_2"]
    expected = softmax(score(plain.encoder, plain.method, test).logits / plain.temperature)
    assert np.abs(run_graph(proto.SerializeToString(), pixels) - expected).max() < 1e-5


def test_what_cannot_be_exported_is_refused_before_work(
    classifier: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_folder, "record", lambda model: pytest.fail("work has begun"))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a").touch()
    with pytest.raises(InputError, match="new or empty folder"):
        export_onnx(classifier, tmp_path / "full")
    with pytest.raises(InputError, match="onnxruntime-web"):
        export_onnx(classifier, tmp_path / "out", web=tmp_path)
    with pytest.raises(InputError, match="Expected a classifier of one class per image to export, got GDA"):
        export_onnx(classifier.method, tmp_path / "out")  # type: ignore[arg-type]
    siglip2 = load_encoder(str(save_checkpoint(tmp_path / "siglip2", "siglip2")))
    digits = load_digits().select(range(20))
    whole = adapt(digits, method="linear_probe", encoder=siglip2, mirror=False, validation="none")
    with pytest.raises(InputError, match="takes every image at a size of its own"):
        export_onnx(whole, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_command_prints_what_was_compared(
    exported: Export,
    classifier: Classifier,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    graph, step = onnx.load(exported.folder / "model.onnx"), classifier.encoder.preprocessing  # type: ignore[union-attr]
    monkeypatch.setattr(onnx_folder, "record", lambda model: (graph, [step]))
    model = str(classifier.save(tmp_path / "model"))
    assert run(["export", model, "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert "compared on 40 bundled digits (give your own by --check)" in said
    assert "decisions on 0 of 40" in said
    assert run(["export", model, "--out", str(tmp_path / "out")]) == 2
    assert "new or empty folder" in capsys.readouterr().err
    assert run(["export", model, "--out", str(tmp_path / "other"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["parity"]["decisions"] == 0
