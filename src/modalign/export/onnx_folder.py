"""Export of a classifier as a folder with an ONNX graph, its metadata, and programs that run it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from modalign.core.arguments.argument_types import checked_arguments
from modalign.core.display import markdown
from modalign.core.errors import InputError
from modalign.core.files import new_folder
from modalign.core.record import versions
from modalign.data.decoding import sniff
from modalign.data.digits import load_digits
from modalign.data.items import Items, load_items
from modalign.export.exportable import check_exportable, check_folder, filter_name, runtime_files
from modalign.export.graph import in_float32, input_names, parts_of, quietly, record
from modalign.export.parity import Parity, Reference

if TYPE_CHECKING:
    from modalign.encoders.preprocess import Preprocessing
    from modalign.model.classifier import Classifier

FORMAT = "modalign-onnx-2"
_STANDALONE = Path(__file__).parent / "standalone"
_BUNDLED = 40  # digits that are compared where no photos are given
_ONE_FILE = 2**31 - 2**24  # bytes; protobuf holds less than 2 GiB


@dataclass(frozen=True)
class Export:
    """Result of an export.

    Attributes
    ----------
    folder : Path
        With ``model.onnx``, ``labels.json``, ``preprocess.json``, ``parity.json``, ``predict.py``, ``photo_input.py``,
        ``sniff.py``, ``predict.js`` and ``README.md``.
    megabytes : float
        Size of ``model.onnx``.
    own_photos : bool
        Whether photos were given to compare; otherwise bundled digits were.
    parity : Parity
        The graph compared with the classifier, from the same pixels.
    resized_by_pillow : Parity
        The same where Pillow resizes, as ``predict.py`` does.
    as_fitted : Parity or None
        The graph compared with the classifier in the half precision of its fit; None where that is float32.
    int8 : Parity or None
        ``model-int8.onnx`` compared with the classifier; None if not requested.
    int8_megabytes : float or None
        Its size.
    """

    folder: Path
    megabytes: float
    own_photos: bool
    parity: Parity
    resized_by_pillow: Parity
    as_fitted: Parity | None
    int8: Parity | None
    int8_megabytes: float | None


@checked_arguments
def export_onnx(
    model: Classifier, out: str | Path, *, check: Any = None, int8: bool = False, web: str | Path | None = None
) -> Export:
    r"""Write a classifier as an ONNX graph that runs without torch and without this library.

    The graph goes from prepared pixels, uint8 (n, H, W, 3) for any n, to :math:`\mathrm{softmax}(s(x) / \tau)`: it
    holds the scaling of pixels, the encoder, the method and the temperature, in float32. Resizing and cropping are
    described in ``preprocess.json`` and done by ``predict.py`` (NumPy, Pillow, onnxruntime) and ``predict.js``
    (onnxruntime-web).
    It also gives the p-values by which "none of these" is answered. Class names are in ``labels.json``; the metadata of
    the graph has these and the description of the inputs too.

    Nothing is written unless graph and classifier agree: on the given photos no probability differs by more
    than 1e-4 and no decision differs. The folder is made under a temporary name and renamed.

    Parameters
    ----------
    model : Classifier
        The model to export.
    out : str or Path
        A new or empty folder.
    check : object, default=None
        Photos to compare the answers on, as :func:`~modalign.load_items` takes them; None takes 40 bundled digits.
    int8 : bool, default=False
        Also write ``model-int8.onnx``, whose matrix products are in 8 bits, and compare it.
    web : str or Path or None, default=None
        Folder of onnxruntime-web (``node_modules`` or its ``dist``), to add a page that runs the model in a browser.

    Returns
    -------
    Export
        Cost: about 10 s of recording, and two passes over the photos.

    Raises
    ------
    InputError
        The model cannot be one graph, a package of ``modalign[onnx]`` is missing, ``out`` holds files, or the graph
        differs from the classifier.

    Examples
    --------
    >>> import modalign as ma
    >>> from modalign.data.digits import load_digits
    >>> digits = load_digits().select(range(30))
    >>> model = ma.adapt(digits, method="zero_shot", mirror=False)
    >>> ma.export_onnx(model, "exported").parity.decisions
    0
    """
    check_exportable(model)
    folder, runtime = check_folder(out), runtime_files(web)
    items = load_digits().select(range(_BUNDLED)) if check is None else load_items(check)
    if not len(items):
        raise InputError("Expected photos to compare the answers on, got none.")
    plain = in_float32(model)
    with new_folder(folder) as temporary:
        found = _write(model, plain, temporary, items, int8=int8, own_photos=check is not None)
        _copy_programs(temporary, runtime)
    return Export(folder, **found)


def _write(
    model: Classifier, plain: Classifier, folder: Path, items: Items, *, int8: bool, own_photos: bool
) -> dict[str, Any]:
    """The graph and what describes it, compared; the fields of :class:`Export`."""
    from modalign.export.standalone.photo_input import prepare

    proto, steps = record(plain)
    described = [_described(step, name) for step, name in zip(steps, input_names(steps), strict=True)]
    _add_metadata(proto, model, described)
    file = _save(proto, folder / "model.onnx")
    _dump(folder / "labels.json", {"format": FORMAT, "classes": model.class_names})
    _dump(folder / "preprocess.json", {"format": FORMAT, "inputs": described})

    comparison = Reference(plain, items)
    parity = comparison.of_graph(file, _prepare(items, steps, described))
    parity.require()
    by_pillow = comparison.of_graph(file, lambda i: {step["name"]: prepare(items.open(i), step) for step in described})
    changed = any(part.spec.dtype != "float32" for part in parts_of(model.encoder))
    as_fitted = Reference(model, items).agreement(comparison.probabilities) if changed else None
    small, size = None, None
    if int8:
        path = _quantize(file, folder / "model-int8.onnx")
        small, size = comparison.of_graph(path, _prepare(items, steps, described)), _megabytes(path)
    found = {
        "megabytes": _megabytes(file),
        "own_photos": own_photos,
        "parity": parity,
        "resized_by_pillow": by_pillow,
        "as_fitted": as_fitted,
        "int8": small,
        "int8_megabytes": size,
    }
    plainly = {name: asdict(value) if isinstance(value, Parity) else value for name, value in found.items()}
    _dump(folder / "parity.json", {"format": FORMAT, "versions": _versions(), **plainly})
    (folder / "README.md").write_text(_readme(model, steps), encoding="utf-8")
    return found


def _prepare(
    items: Items, steps: Sequence[Preprocessing], described: Sequence[dict[str, Any]]
) -> Callable[[int], dict[str, np.ndarray]]:
    """The inputs of an image as the library prepares it."""

    def prepare(i: int) -> dict[str, np.ndarray]:
        return {
            own["name"]: step.prepare(items.open(i, target=step.target))
            for step, own in zip(steps, described, strict=True)
        }

    return prepare


def _described(step: Preprocessing, name: str) -> dict[str, Any]:
    return {
        "name": name,
        "resize": step.resize,
        "size": step.size,
        "resample": filter_name(step.resample),
        "crop": step.crop,
        "half": step.half,
    }


def _add_metadata(proto: Any, model: Classifier, described: Sequence[dict[str, Any]]) -> None:
    import onnx

    spec = model.encoder.spec
    onnx.helper.set_model_props(
        proto,
        {
            "format": FORMAT,
            "modalign": versions()["modalign"],
            "encoder": spec.name,
            "fingerprint": spec.fingerprint,
            "method": type(model.method).__name__,
            "classes": json.dumps(model.class_names),
            "inputs": json.dumps(described),
            "temperature": repr(model.temperature),
            "rejection": json.dumps(None if model.rejection is None else asdict(model.rejection)),
        },
    )


def _save(proto: Any, path: Path) -> Path:
    import onnx

    onnx.save(proto, path, save_as_external_data=proto.ByteSize() > _ONE_FILE, location=f"{path.name}.data")
    return path


def _quantize(file: Path, path: Path) -> Path:
    """Matrix products with 8-bit weights, one scale per column, and dynamically quantized activations."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    options: dict[str, Any] = {"weight_type": QuantType.QInt8, "per_channel": True}
    with quietly():  # it recommends preprocessing that changes nothing here
        quantize_dynamic(file, path, op_types_to_quantize=["MatMul", "Gemm"], **options)
    return path


def _megabytes(path: Path) -> float:
    return round(sum(part.stat().st_size for part in path.parent.glob(f"{path.name}*")) / 1e6, 2)


def _dump(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False), encoding="utf-8")


def _versions() -> dict[str, str]:
    import onnx
    import onnxruntime

    return versions() | {"onnx": onnx.__version__, "onnxruntime": onnxruntime.__version__}


def _copy_programs(folder: Path, runtime: Sequence[Path]) -> None:
    programs = [_STANDALONE / name for name in ("predict.py", "photo_input.py", "predict.js")]
    for program in (*programs, Path(sniff.__file__), *([_STANDALONE / "index.html"] if runtime else [])):
        shutil.copyfile(program, folder / program.name)
    for file in runtime:
        (folder / "ort").mkdir(exist_ok=True)
        shutil.copyfile(file, folder / "ort" / file.name)


def _readme(model: Classifier, steps: Sequence[Preprocessing]) -> str:
    text = (_STANDALONE / "README.md").read_text(encoding="utf-8")
    shapes = ", ".join(
        f"`{name}` (n, {tall}, {wide}, 3)"
        for name, (tall, wide) in zip(input_names(list(steps)), ((s.crop or s.size) for s in steps), strict=True)
    )
    return text.format(
        encoder=markdown(model.encoder.spec.name),
        method=type(model.method).__name__,
        classes=", ".join(map(markdown, model.class_names[:20])) + (" …" if len(model.class_names) > 20 else ""),
        count=len(model.class_names),
        inputs=shapes,
    )
