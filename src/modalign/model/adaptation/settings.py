"""The method of an adaptation and its hyper-parameters, checked before any work starts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from modalign.core.arrays import is_integer
from modalign.core.errors import InputError, UnknownNameError, argument
from modalign.core.name_matching import nearest
from modalign.core.randomness import require_seed
from modalign.evaluate.publications.printed_methods import refuse_printed_rows
from modalign.methods import method_class
from modalign.methods.contract.estimators.estimator import unfitted
from modalign.methods.contract.parameters import check_parameters, parameters
from modalign.methods.contract.tower import TowerMethod
from modalign.methods.contract.vectors import VectorMethod


def split_crops(
    method: str | VectorMethod | TowerMethod, crops: int, mirror: bool | None, hyperparameters: dict[str, Any]
) -> tuple[int, dict[str, Any]]:
    """Return the number of crops to embed, and the hyper-parameters, with ``crops`` if the method cuts them itself."""
    if not isinstance(method, (str, VectorMethod, TowerMethod)):
        raise InputError(f"Expected {argument('method')} as a name or an unfitted method like CMM(), got {method!r}.")
    if mirror is not None and not isinstance(mirror, bool):
        raise InputError(f"Expected {argument('mirror')} as True, False or None, got {mirror!r:.40}.")
    if isinstance(method, str):
        refuse_printed_rows([method], "method")
    cls = method_class(method) if isinstance(method, str) else type(method)
    if not crops:
        return 0, hyperparameters
    if "crops" in {p.name for p in parameters(cls)}:
        return 0, {"crops": crops, **hyperparameters}
    if not getattr(cls, "takes_parts", False):
        raise InputError(f"{cls.__name__} uses whole images and takes no crops; leave them out.")
    if not is_integer(crops) or crops < 1:
        raise InputError(f"Expected a number of crops of every image, 0 for whole images only, got {crops!r}.")
    if mirror:
        raise InputError("Expected crops or mirrored images, got both; choose one.")
    return crops, hyperparameters


def configure(
    method: str | VectorMethod | TowerMethod,
    hyperparameters: dict[str, Any],
    random_state: int,
    arguments: Iterable[str] = (),
) -> VectorMethod | TowerMethod:
    """Return an unfitted method with the given hyper-parameters, after checking them.

    A method given as an object is cloned and not modified. Its hyper-parameters are kept; ``random_state`` is set only
    if it is None. ``arguments`` are other names that the error about a misspelled hyper-parameter may suggest.
    """
    require_seed(random_state)
    method = method_class(method)() if isinstance(method, str) else unfitted(method)
    cls: type = type(method)
    own = {p.name for p in parameters(cls)}
    for name in hyperparameters:
        meant = nearest(name, [*own, *arguments])
        if meant is not None and meant not in own:
            raise UnknownNameError("argument", name, [meant])
    method.set_params(**hyperparameters)
    if "random_state" in own and method.random_state is None:
        method.set_params(random_state=random_state)
    check_parameters(method)
    return method
