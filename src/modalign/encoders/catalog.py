"""Find the folder of a checkpoint by name: built in, on this machine, or on the Hugging Face hub."""

from __future__ import annotations

import os
import re
from difflib import get_close_matches
from pathlib import Path

from modalign.core.errors import InputError, UnavailableError, UnknownNameError
from modalign.core.files import require_path
from modalign.core.progress import is_visible
from modalign.encoders.registry import EMBEDDED, KNOWN_ENCODERS, OTHER_ENCODERS, SHORT_NAMES
from modalign.encoders.untrusted import read_object

OPEN_CLIP = "open_clip_config.json"
DESCRIPTIONS = (
    "config.json",
    OPEN_CLIP,
    "preprocessor_config.json",
    "processor_config.json",
    "tokenizer*",
    "vocab.*",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
    "spiece.model",
    "sentencepiece*.model",
)
WEIGHTS = ("model.safetensors", "model-*.safetensors", "model.safetensors.index.json")
OPEN_CLIP_WEIGHTS = ("open_clip_model.safetensors",)
"""Files that are downloaded from the hub: no code, no pickles, and the weights of one layout if there are several."""

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+(@[\w./-]+)?")
_PUT = (
    "download its folder (config.json, model.safetensors, preprocessor_config.json and the tokenizer files) "
    "elsewhere and give the folder's path"
)


def locate(name: str | os.PathLike[str], *, fetch: bool = True) -> Path:
    """Return the folder of the checkpoint ``name``.

    In this order: a built-in name; a name of another package; an existing folder; an OpenAI CLIP name such as ``RN50``;
    ``org/name`` or ``org/name@revision`` on the hub, optionally with the prefix ``hf-hub:``, from the local cache of
    the hub if there is no network.

    Parameters
    ----------
    name : str or Path
        Name on the hub, or folder.
    fetch : bool, default=True
        Whether to download from the hub. If False, only its local cache is searched.

    Raises
    ------
    UnknownNameError
        No checkpoint has that name; the message suggests the nearest one.
    UnavailableError
        The checkpoint is not cached, and the hub cannot be reached or ``fetch`` is False.
    """
    text = os.fspath(name).removeprefix("hf-hub:")
    if text in EMBEDDED:
        return EMBEDDED[text]
    if text in OTHER_ENCODERS:
        return OTHER_ENCODERS.get(text)
    folder = folder_of(text)
    if folder is not None:
        return folder
    text = SHORT_NAMES.get(text, text)
    require_path(text, "an encoder")
    if not _HUB_NAME.fullmatch(text):
        raise _unknown(text, "There is no such folder." if "/" in text or os.sep in text else "")
    if fetch:
        return _fetch(text)
    found = downloaded(text)
    if found is None:
        raise UnavailableError(f"'{text}' is not on this machine.")
    return found


def folder_of(text: str) -> Path | None:
    """Return the existing folder with the path ``text``; None if there is none, or ``text`` is a registered name.

    Raises
    ------
    InputError
        The path exists but is not a folder.
    """
    if text in EMBEDDED or text in OTHER_ENCODERS:
        return None
    try:
        path = Path(text).expanduser()
        if path.is_dir():
            return path
        exists = path.exists()
    except (OSError, RuntimeError, ValueError):  # too long, of no user, with a null byte
        return None
    if exists:
        raise InputError(f"Expected the folder of an encoder (config.json beside the weights), got the file '{text}'.")
    return None


def _nearest(text: str) -> list[str]:
    """The known name, or the checkpoint folder beside a path that does not exist, that comes nearest to ``text``."""
    try:
        path = Path(text).expanduser()
        described = (found for file in ("config.json", OPEN_CLIP) for found in path.parent.glob(f"*/{file}"))
        beside = {str(path.parent / found.parent.name) for found in described}
    except (OSError, RuntimeError, ValueError):
        beside = set()
    return get_close_matches(text, {*KNOWN_ENCODERS, *SHORT_NAMES, *OTHER_ENCODERS.names(), *beside}, n=1, cutoff=0.5)


def _unknown(text: str, advice: str) -> UnknownNameError:
    known = _nearest(text) or ["tiny", "tiny-vision", "any local folder in Hugging Face format", "hub names"]
    return UnknownNameError("encoder", text, known, advice)


def _fetch(text: str) -> Path:
    """Return the local copy of a hub repository, downloaded if necessary."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, HFValidationError, RepositoryNotFoundError

    from modalign.encoders.quiet import quiet

    name, _, revision = text.partition("@")
    try:
        with quiet(bars=not is_visible()):
            folder = Path(snapshot_download(name, revision=revision or None, allow_patterns=list(DESCRIPTIONS)))
            for weights in weights_of(folder):
                folder = Path(snapshot_download(name, revision=revision or None, allow_patterns=list(weights)))
                if any(folder.glob("*.safetensors")):
                    return folder
            return folder if revision else _converted(name, folder)
    except GatedRepoError:
        raise UnavailableError(
            f"'{name}' is gated: accept its license on the hub and log in with 'hf auth login', or {_PUT}."
        ) from None  # the chain of errors of the hub's client has no further information
    except (RepositoryNotFoundError, HFValidationError):
        raise _unknown(text, f"The hub has no public '{name}'.") from None
    except (HfHubHTTPError, OSError):
        close = get_close_matches(name, _nearest(name), n=1, cutoff=0.85)
        if close and close[0] != name:
            raise _unknown(text, f"'{text}' itself is not on this machine and the hub cannot be reached.") from None
        raise UnavailableError(
            f"'{text}' is not on this machine and the hub cannot be reached; go online once, or {_PUT}."
        ) from None


def weights_of(folder: Path) -> list[tuple[str, ...]]:
    """Return the possible weight files of a checkpoint by its configuration files, in order of preference.

    The Hugging Face layout is preferred over that of open_clip. ``config.json`` counts only if it contains a model
    type, because timm uses the same file name.
    """
    path = folder / "config.json"
    described = path.is_file() and "model_type" in read_object(path)
    if not (folder / OPEN_CLIP).is_file():
        return [WEIGHTS]
    return [WEIGHTS, OPEN_CLIP_WEIGHTS] if described else [OPEN_CLIP_WEIGHTS]


def is_open_clip(folder: Path) -> bool:
    """Return whether the folder is an open_clip checkpoint."""
    layouts = weights_of(folder)
    return layouts[0] == OPEN_CLIP_WEIGHTS or (
        len(layouts) > 1 and not any((folder / name).is_file() for name in (WEIGHTS[0], WEIGHTS[2]))
    )


def downloaded(text: str) -> Path | None:
    """Return the snapshot of a hub repository in the local cache, without network access."""
    from huggingface_hub import try_to_load_from_cache

    name, _, revision = text.partition("@")
    if ".." in revision:
        return None
    found = (try_to_load_from_cache(name, file, revision=revision or None) for file in ("config.json", OPEN_CLIP))
    folder = next((Path(path).parent for path in found if isinstance(path, str)), None)
    if folder is None:
        return None
    return folder if revision or any(folder.glob("*.safetensors")) else _with_weights(folder) or folder


def _with_weights(folder: Path) -> Path | None:
    """Return another snapshot of the repository that contains safetensors."""
    others = sorted(folder.parent.iterdir())
    return next((o for o in others if any(o.glob("*.safetensors")) and (o / "config.json").exists()), None)


def _converted(name: str, folder: Path) -> Path:
    """Return the hub's safetensors conversion of a repository with pickled weights only, else ``folder``.

    The conversion bot of the hub provides it as a pull request, with files under ``refs/pr/N``. After the download it
    is another snapshot next to ``folder``, which is found without a network.
    """
    from huggingface_hub import get_repo_discussions, snapshot_download

    if (other := _with_weights(folder)) is not None:
        return other
    for pull in get_repo_discussions(name, author="SFconvertbot", discussion_type="pull_request"):
        if "safetensors" in pull.title.lower():
            return Path(
                snapshot_download(name, revision=f"refs/pr/{pull.num}", allow_patterns=[*DESCRIPTIONS, *WEIGHTS])
            )
    return folder
