"""Base class of all methods: an estimator for scikit-learn that does not import scikit-learn.

``import sklearn.base`` takes about as long as half of ``import torch``, mostly for ``scipy.stats``; a command that
predicts one image needs neither. scikit-learn and notebooks call the functions below by name. Those that need
scikit-learn import it when they are called.
"""

from __future__ import annotations

import inspect
import re
from copy import deepcopy
from functools import cache
from typing import TYPE_CHECKING, Any, Self, TypeVar

from modalign.methods.contract.parameters import known_parameters, parameters

if TYPE_CHECKING:
    from sklearn.base import BaseEstimator as _Base  # untyped: what a method learns need not be declared
    from sklearn.utils import Tags
else:
    _Base = object

E = TypeVar("E", bound="Parametrized")
# What scikit-learn's base classes have besides; their private names differ between versions.
_BORROWED = re.compile(r"_[a-z]\w*|get_metadata_routing|set_\w+_request|set_output")


class _Named(type):
    """Metaclass whose constructors match their arguments by :func:`known_parameters`."""

    @property
    def __signature__(cls) -> inspect.Signature:
        """That of ``__init__`` without ``self``, which the ``__call__`` below would hide."""
        return inspect.Signature(list(inspect.signature(cls.__init__).parameters.values())[1:])  # type: ignore[misc]  # not that of a subclass

    def __call__(cls, *args: Any, **settings: Any) -> Any:
        return super().__call__(*args, **known_parameters(cls, settings))


class Parametrized(_Base, metaclass=_Named):
    """Estimator that accepts American and British spelling of its hyper-parameters and suggests corrections.

    It has the functions of :class:`sklearn.base.BaseEstimator` without being one.
    """

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the hyper-parameters by name; ``deep`` adds those of an estimator among them, as ``name__inner``."""
        found: dict[str, Any] = {}
        for name in sorted(parameter.name for parameter in parameters(type(self))):
            found[name] = value = getattr(self, name)
            if deep and hasattr(value, "get_params") and not isinstance(value, type):
                found |= {f"{name}__{inner}": part for inner, part in value.get_params().items()}
        return found

    def set_params(self, **settings: Any) -> Self:
        """Set hyper-parameters by name.

        Raises
        ------
        UnknownNameError
            A name is unknown; the message suggests the nearest one.
        """
        for name, value in known_parameters(type(self), settings).items():
            setattr(self, name, value)
        return self

    def __repr__(self) -> str:
        """The constructor call, without hyper-parameters that have their default."""
        given = {p.name: (repr(getattr(self, p.name, p.default)), repr(p.default)) for p in parameters(type(self))}
        changed = (f"{name}={value}" for name, (value, default) in sorted(given.items()) if value != default)
        return f"{type(self).__name__}({', '.join(changed)})"

    def __sklearn_is_fitted__(self) -> bool:
        """Whether the last ``fit`` ran to its end, where every method sets ``diagnosis_``."""
        return "diagnosis_" in vars(self)

    def __sklearn_tags__(self) -> Tags:
        """What kind of estimator this is and what it takes; functions such as ``is_classifier`` call it."""
        from sklearn.base import BaseEstimator

        return BaseEstimator.__sklearn_tags__(self)  # a plain function

    if not TYPE_CHECKING:  # which knows these from the base class

        def __getattr__(self, name: str) -> Any:
            """What else scikit-learn's base classes have: diagrams in notebooks, routing of metadata, data frames."""
            if _BORROWED.fullmatch(name):
                complete = complete_class(type(self))
                found = inspect.getattr_static(complete, name, None)
                if found is not None:
                    return found.__get__(self, complete) if hasattr(found, "__get__") else found
            raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'", name=name, obj=self)


@cache
def complete_class(cls: type[Parametrized]) -> Any:
    """Return ``cls`` as a subclass of scikit-learn's, which read the signatures of its functions and wrap them."""
    from sklearn.base import BaseEstimator, TransformerMixin

    new_class: Any = type(cls)
    own = {"__module__": cls.__module__}
    if not hasattr(cls, "_transformed"):  # that of a MappingMethod, which scikit-learn then wraps
        return new_class(cls.__name__, (cls, BaseEstimator), own)
    return new_class(cls.__name__, (cls, TransformerMixin, BaseEstimator), own | {"transform": cls._transformed})


def unfitted(estimator: E) -> E:
    """Return a new estimator with copies of the hyper-parameters, as :func:`sklearn.base.clone` does."""
    settings = estimator.get_params(deep=False).items()
    copies = {name: unfitted(v) if isinstance(v, Parametrized) else deepcopy(v) for name, v in settings}
    return type(estimator)(**copies)


def require_fitted(estimator: Parametrized) -> None:
    """Raise scikit-learn's ``NotFittedError`` if ``estimator`` has learned nothing."""
    if not estimator.__sklearn_is_fitted__():
        from sklearn.utils.validation import check_is_fitted

        check_is_fitted(estimator)
