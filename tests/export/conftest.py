from __future__ import annotations

import os
from pathlib import Path

import pytest

from modalign import Classifier, adapt, export_onnx
from modalign.data.digits import load_digits
from modalign.export.onnx_folder import Export

NODE_MODULES = os.environ.get("MODALIGN_NODE_MODULES", "node_modules")


@pytest.fixture(scope="session")
def node_modules() -> Path:
    folder = Path(NODE_MODULES)
    if not (folder / "onnxruntime-web" / "dist").is_dir():
        pytest.skip("needs onnxruntime-web: npm install onnxruntime-web, and MODALIGN_NODE_MODULES=…/node_modules")
    return folder


@pytest.fixture(scope="session")
def classifier() -> Classifier:
    return adapt(load_digits().select(range(100)), method="gda", encoder="tiny", mirror=False)


@pytest.fixture(scope="session")
def exported(classifier: Classifier, tmp_path_factory: pytest.TempPathFactory) -> Export:
    pytest.importorskip("onnxruntime", reason="the graph is run by onnxruntime")
    folder = tmp_path_factory.mktemp("export")
    web = NODE_MODULES if (Path(NODE_MODULES) / "onnxruntime-web").is_dir() else None
    held_out = load_digits().select(range(90, 150))
    return export_onnx(classifier, folder / "model", check=held_out, int8=True, web=web)
