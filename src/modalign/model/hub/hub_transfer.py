"""Upload to and download from the hub: a card, one safetensors file and a page that describes the model."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modalign.core.errors import InputError, UnavailableError
from modalign.core.files import read_json, write
from modalign.core.progress import is_visible
from modalign.encoders.quiet import quiet
from modalign.methods.contract.vectors import VectorMethod
from modalign.model.hub.hub_page import model_page
from modalign.model.persistence import FORMAT

if TYPE_CHECKING:
    from modalign.model.classifier import Classifier
    from modalign.model.predictions import Evaluation

_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", flags=re.ASCII)
PAGE = "README.md"
_OF_IMAGES = ("fitted_answers_", "transduction_", "pseudo_labels_")


def is_hub_name(text: str) -> bool:
    """Return whether this is ``user/name`` and not a local path: neither it nor the folder ``user`` exists."""
    path = Path(text)
    return _NAME.fullmatch(text) is not None and not path.exists() and not path.parent.exists()


def push(
    model: Classifier,
    repo_id: str,
    *,
    evaluation: Evaluation | None,
    license: str | None,
    private: bool | None,
    token: str | None,
    fingerprints: bool,
) -> str:
    """See :meth:`Classifier.push_to_hub <modalign.Classifier.push_to_hub>`."""
    from huggingface_hub import HfApi

    if _NAME.fullmatch(repo_id) is None:
        raise InputError(f"Expected the name of a repository as 'user/name', got '{repo_id:.80}'.")
    shared = model if fingerprints else without_images(model)
    with tempfile.TemporaryDirectory() as folder, _explained(repo_id):
        shared.save(folder)
        write(Path(folder) / PAGE, model_page(shared, repo_id, evaluation, license))
        api = HfApi(token=token)
        with quiet(bars=not is_visible()):
            api.create_repo(repo_id, private=private, exist_ok=True)
            done = api.upload_folder(
                repo_id=repo_id,
                folder_path=folder,
                commit_message="Upload model",
                delete_patterns=["weights-*.safetensors"],  # of the model that was there before
            )
    return str(done.commit_url)


def pull(repo_id: str, revision: str | None = None, token: str | None = None) -> Path:
    """Return the local folder with the card, the page and the weights of the card; nothing else is downloaded."""
    from huggingface_hub import snapshot_download

    with _explained(repo_id), quiet(bars=not is_visible()):
        names = [FORMAT.file, PAGE]
        folder = Path(snapshot_download(repo_id, revision=revision, token=token, allow_patterns=names))
        if not (folder / FORMAT.file).is_file():
            raise InputError(f"Expected a model of modalign in '{repo_id}', it has no {FORMAT.file}.")
        card = read_json(folder / FORMAT.file, "a card")
        weights = card.get(FORMAT.tensors) if isinstance(card, dict) else card
        if not isinstance(weights, str) or not FORMAT.is_tensor_file(weights):
            raise InputError(f"Expected a card that names its weights in '{repo_id}', got {weights!r:.80}.")
        # the commit that the card is of: the repository may change in between
        return Path(snapshot_download(repo_id, revision=folder.name, token=token, allow_patterns=[*names, weights]))


def without_images(model: Classifier) -> Classifier:
    """Return the model without names, hashes and transductive answers of the images that it was fitted on."""
    record = {**model.record, "notes": [], "quarantined": []}  # both name files
    method = model.method
    if isinstance(method, VectorMethod):
        method = _forgetful(method)
    return replace(model, method=method, record=record, fitted_on=frozenset(), validated_on=None)


def _forgetful(method: VectorMethod) -> VectorMethod:
    other: Any = copy(method)
    for name in _OF_IMAGES:
        other.__dict__.pop(name, None)
    if "members_" in vars(other):
        other.members_ = [_forgetful(member) for member in other.members_]
    return other


@contextmanager
def _explained(repo_id: str) -> Iterator[None]:
    """Convert errors of the hub to one sentence."""
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        yield
    except GatedRepoError:
        raise UnavailableError(f"'{repo_id}' is gated: accept its terms on the hub and run 'hf auth login'.") from None
    except RevisionNotFoundError:
        raise UnavailableError(f"'{repo_id}' has no such revision on the hub.") from None
    except RepositoryNotFoundError:
        raise UnavailableError(
            f"'{repo_id}' is no folder here and no repository on the hub that you may read; run 'hf auth login' if it "
            "is private."
        ) from None
    except LocalEntryNotFoundError:
        raise UnavailableError(
            f"'{repo_id}' is no folder here, and it is not in the hub's cache while the hub cannot be reached."
        ) from None
    except (HfHubHTTPError, OSError) as error:
        reason = " ".join(str(error).split())[:160]
        raise UnavailableError(f"The hub did not answer for '{repo_id}' as expected: {reason}") from None
