"""Files to damage and the conditions that must hold, one class per kind of file.

A trial results in ``accepted``, ``refused`` (one sentence or one reason), ``vanished`` (something is in neither list)
or ``changed`` (accepted with other content than the undamaged file). Any other exception is a fault.
"""

from __future__ import annotations

import csv
import io
import json
import random
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image, ImageDraw, features

import modalign as ma
from bench.fuzz_mutations import damaged, damaged_json
from modalign.core.errors import ModalignError, UndecodableError
from modalign.data.decoding.decode import decode
from modalign.data.names import read_classes
from modalign.data.splits.coop_files import read_coop_split
from modalign.data.splits.drawing import few_shot
from modalign.data.splits.split import Split
from modalign.data.text.descriptions import read_descriptions, read_structures
from modalign.encoders.checkpoint import Checkpoint
from modalign.evaluate.runs import read_runs
from modalign.model.persistence import save_model

CLASSES = ("disc", "square")


class Target(Protocol):
    """One kind of file."""

    name: str

    def setup(self, folder: Path) -> None:
        """Create the undamaged files."""

    def trial(self, dice: random.Random, folder: Path) -> str:
        """Damage one file, read it, and judge the answer."""


def drawing(i: int, side: int = 32) -> Image.Image:
    """A disc or a square, different for every number."""
    image = Image.new("RGB", (side + i % 5, side), (20 + 7 * i % 60, 30, 40))
    pen = ImageDraw.Draw(image)
    outline = pen.ellipse if i % 2 == 0 else pen.rectangle
    outline((6, 6, 14 + i % 13, 14 + i % 13), fill=(200, 90 + i % 100, 40))
    return image


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    """An image file in memory."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def photos(folder: Path, count: int = 12) -> dict[str, bytes]:
    """Drawings in two class folders; what was written, by name."""
    files = {f"{CLASSES[i % 2]}/{i}.png": encoded(drawing(i), "PNG") for i in range(count)}
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return files


class Images:
    """Image files of every format and mode that is read."""

    name = "images"

    def setup(self, folder: Path) -> None:
        image = drawing(3, 48)
        noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 40, 3), dtype=np.uint8))
        deep = Image.fromarray(np.arange(48 * 40, dtype=np.uint16).reshape(48, 40) * 30)
        self.files = [
            encoded(image, "JPEG"), encoded(noise, "JPEG", progressive=True), encoded(image.convert("CMYK"), "JPEG"),
            encoded(noise, "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\6\0\0\0\0\0\0\0"),
            encoded(image, "PNG"), encoded(image.convert("RGBA"), "PNG"), encoded(deep, "PNG"),
            encoded(image.quantize(8), "PNG", transparency=3), encoded(image, "GIF"),
            encoded(image, "GIF", save_all=True, append_images=[drawing(4, 48)]), encoded(image, "BMP"),
            encoded(image.quantize(16), "BMP"), encoded(noise, "TIFF", compression="tiff_lzw"), encoded(image, "TIFF"),
            encoded(deep, "TIFF", compression="tiff_adobe_deflate"), encoded(image.convert("F"), "TIFF"),
            encoded(noise, "TIFF", compression="jpeg"), encoded(image, "PPM"), encoded(image, "ICO"),
            encoded(noise, "WEBP"), encoded(image, "WEBP", lossless=True), encoded(image, "JPEG2000"),
        ]  # fmt: skip
        if features.check("avif"):
            self.files.append(encoded(image, "AVIF", speed=10))

    def trial(self, dice: random.Random, folder: Path) -> str:
        try:
            decode(damaged(dice.choice(self.files), dice), max_pixels=2**22)
        except UndecodableError:
            return "refused"
        return "accepted"


class Archives:
    """Zip and tar files, packed in every way."""

    name = "archives"

    def setup(self, folder: Path) -> None:
        self.names = photos(folder / "photos")
        self.archives: list[Path] = []
        for number, method in enumerate(
            (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
        ):
            self.archives.append(folder / f"{number}.zip")
            with zipfile.ZipFile(self.archives[-1], "w", method) as archive:
                for name, data in self.names.items():
                    archive.writestr(name, data)
        for mode in ("", "gz", "bz2", "xz"):
            for form in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)[: 1 if mode else 3]:
                self.archives.append(folder / f"{form}.tar{'.' if mode else ''}{mode}")
                with tarfile.open(self.archives[-1], f"w:{mode}", format=form) as archive:
                    for name in self.names:
                        archive.add(folder / "photos" / name, name)

    def trial(self, dice: random.Random, folder: Path) -> str:
        archive = dice.choice(self.archives)
        path = folder / f"damaged.{archive.name.split('.', 1)[1]}"
        path.write_bytes(damaged(archive.read_bytes(), dice))
        items = ma.load_items(path)
        told = [*items.notes, *(q.reason for q in items.quarantined)]
        for i in range(len(items)):
            try:
                items.open(i)
            except UndecodableError as error:
                told.append(str(error))
        return "accepted" if told or self.names.keys() <= set(items.ids) or _is_shorter(path, archive) else "vanished"


def _is_shorter(path: Path, archive: Path) -> bool:
    """Whether a damaged tar file is, byte for byte, an undamaged one of the first members: zeros behind them."""
    if archive.suffix != ".tar":
        return False
    data, whole = path.read_bytes(), archive.read_bytes()
    kept = data.rstrip(b"\0")
    return len(data) == len(whole) and whole.startswith(kept) and len(data) - len(kept) >= 1024


class Tables:
    """CSV files and lists; every row that names an image must be an item or have a reason."""

    name = "tables"

    def setup(self, folder: Path) -> None:
        names = list(photos(folder / "photos"))
        self.rows = "".join(f"photos/{name},{name.split('/')[0]}\r\n" for name in names)

    def trial(self, dice: random.Random, folder: Path) -> str:
        path = folder / "list.csv"
        rows = damaged(self.rows.encode(), dice)
        path.write_bytes(b"path,label\r\n" + rows)
        items = ma.load_items(path)
        told = {name.casefold() for name in (*items.ids, *(q.id for q in items.quarantined))}
        text = path.read_bytes().decode("utf-8-sig").replace("\\", "/").replace("\r\n", "\n").replace("\r", "\n")
        named = [row[0].strip() for row in csv.reader(io.StringIO(text), skipinitialspace=True) if row][1:]
        missing = [name for name in named if name and name.casefold() not in told and name.isprintable()]
        return "vanished" if missing and not items.notes else "accepted"


class FeatureFiles:
    """Features as ``.npz``."""

    name = "npz"

    def setup(self, folder: Path) -> None:
        noise = np.random.default_rng(0)
        spec = ma.load_encoder("tiny", cache=False).spec
        vectors = noise.normal(size=(20, 8)).astype(np.float32)
        self.whole = ma.Features(
            vectors, ids=tuple(f"é/{i}.png" for i in range(20)), labels=np.arange(20) % 3, class_names=("a", "b", "c"),
            spec=spec,
        )  # fmt: skip
        self.whole.save(folder / "plain.npz")
        arrays = {"vectors": vectors, "labels": self.whole.labels, "class_names": np.array(["a", "b", "c"])}
        np.savez_compressed(folder / "packed.npz", **arrays)
        self.files = [(folder / name).read_bytes() for name in ("plain.npz", "packed.npz")]

    def trial(self, dice: random.Random, folder: Path) -> str:
        path = folder / "damaged.npz"
        path.write_bytes(damaged(dice.choice(self.files), dice))
        found = ma.Features.load(path)
        same = np.array_equal(found.vectors, self.whole.vectors) and np.array_equal(found.labels, self.whole.labels)
        return "accepted" if same and found.class_names == self.whole.class_names else "changed"


class Json:
    """Every kind of JSON file that is read."""

    name = "json"

    def setup(self, folder: Path) -> None:
        names = list(photos(folder / "photos"))
        self.items = ma.load_items(folder / "photos")
        few_shot(self.items.labels, 2, 0).save(folder / "split.json", self.items)
        edge = {"entity": "a", "relationship": "is", "attribute": "b"}
        graph = {"Entities": ["a"], "Attributes": ["b"], "Entity-to-Entity Relationships": [],
                 "Entity-to-Attribute Relationships": [edge]}  # fmt: skip
        lists = [[name, CLASSES.index(name.split("/")[0]), name.split("/")[0]] for name in names]
        features = ma.Features(
            np.random.default_rng(0).normal(size=(24, 4)).astype(np.float32), labels=np.arange(24) % 2
        )
        ma.compare(features, text=False, methods=["linear_probe"], shots=[2], seeds=2, ablations=False, jobs=1,
                   record=folder / "runs.jsonl")  # fmt: skip
        tiny = Path(ma.__file__).parent / "encoders" / "weights" / "tiny"
        self.config = {name: (tiny / name).read_text() for name in ("config.json", "preprocessor_config.json")}
        coop = {"train": lists[:6], "val": lists[6:8], "test": lists[8:]}
        graphs = {name: {"s": "a shape", "g": [graph]} for name in CLASSES}
        self.texts: list[tuple[str, Callable[[Path], object]]] = [
            (json.dumps(CLASSES), read_classes),
            (json.dumps({name: name.upper() for name in CLASSES}), read_classes),
            (json.dumps({name: ["a shape", "a form"] for name in CLASSES}), lambda f: read_descriptions(f, CLASSES)),
            (json.dumps(graphs), lambda f: read_structures(f, CLASSES)),
            ((folder / "split.json").read_text(), lambda f: Split.load(f, self.items)),
            (json.dumps(coop), lambda f: read_coop_split(f, folder / "photos")),
            ((folder / "runs.jsonl").read_text().splitlines()[0], read_runs),
        ]  # fmt: skip

    def trial(self, dice: random.Random, folder: Path) -> str:
        if dice.random() < 0.2:
            return self._encoder(dice, folder)
        text, reader = dice.choice(self.texts)
        path = folder / "damaged.json"
        path.write_bytes(damaged_json(text, dice))
        reader(path)
        return "accepted"

    def _encoder(self, dice: random.Random, folder: Path) -> str:
        """The settings of an encoder; its weights are ignored."""
        (folder / "encoder").mkdir(exist_ok=True)
        (folder / "encoder" / "model.safetensors").write_bytes(b"")
        spoiled = dice.choice(list(self.config))
        for name, text in self.config.items():
            (folder / "encoder" / name).write_bytes(damaged_json(text, dice) if name == spoiled else text.encode())
        Checkpoint.open(folder / "encoder").preprocessing()
        return "accepted"


class Models:
    """Saved classifiers and bare methods: refused, or with the answers of the undamaged model."""

    name = "models"

    def setup(self, folder: Path) -> None:
        photos(folder / "photos", 24)
        self.encoder = ma.load_encoder("tiny", cache=False)
        self.questions = self.encoder.embed_images(folder / "photos", progress=False)
        self.models: list[tuple[dict[str, bytes], np.ndarray]] = []
        for method in ("zero_shot", "linear_probe", "tip_adapter", "lfa"):
            classifier = ma.adapt(folder / "photos", encoder=self.encoder, method=method, random_state=0)
            for number, model in enumerate((classifier, classifier.method)):
                place = folder / f"{method}{number}"
                model.save(place) if number == 0 else save_model(place, model)
                self.models.append(({p.name: p.read_bytes() for p in place.iterdir()}, self._answers(model)))

    def _answers(self, model: object) -> np.ndarray:
        if isinstance(model, ma.Classifier):
            predictions = model.predict(self.questions)
            return np.array([[p.name, f"{p.probability:.6f}"] for p in predictions])
        return model.predict_proba(self.questions).round(5)  # type: ignore[attr-defined]

    def trial(self, dice: random.Random, folder: Path) -> str:
        files, answers = dice.choice(self.models)
        place = folder / "damaged-model"
        place.mkdir(exist_ok=True)
        for old in place.iterdir():
            old.unlink()
        spoiled = dice.choice(("card.json", "card.json", "weights"))
        for name, data in files.items():
            if name.startswith(spoiled):
                data = damaged_json(data.decode(), dice) if name == "card.json" else damaged(data, dice)
            (place / name).write_bytes(data)
        found = self._answers(ma.load(place, encoder=self.encoder))
        return "accepted" if np.array_equal(found, answers) else "changed"


TARGETS: tuple[type[Target], ...] = (Images, Archives, Tables, FeatureFiles, Json, Models)


def judge(target: Target, dice: random.Random, folder: Path) -> str:
    """The answer of one trial; warnings are ignored."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return target.trial(dice, folder)
        except ModalignError:
            return "refused"
