r"""CMM: a learned linear map of the images, trained jointly with the class texts.

.. math::
    f &= \hat x (W + I), \quad
    s^{\mathrm{CMM}}_c = \cos(f, T_c), \quad s^{\mathrm{CLIP}}_c = \hat x^\top t_c && (6, 7) \\
    d^+ &= 1 - s^{\mathrm{CMM}}_y, \quad d^- = \min_{c \ne y} 1 - s^{\mathrm{CMM}}_c && (9\text{–}11) \\
    s &= s^{\mathrm{CMM}} + \beta\, s^{\mathrm{CLIP}}, \quad
    L = \mathrm{CE}(\tau^{-1} s, y) + \max(0,\; d^+ - d^- + m) && (12\text{–}16)

:math:`\hat x` are unit image features of width d, t (C, d) the unit class texts; T starts at t. By default, the
number of steps and β are chosen on validation images or by cross-validation, with zero-shot among the candidates.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Self

import torch
from torch import Tensor

from modalign.core.errors import InputError
from modalign.core.renaming import Formerly
from modalign.linalg.prototypes import class_means
from modalign.linalg.similarity import unit
from modalign.methods.cmm.cmm_diagnosis import ablation, movement
from modalign.methods.cmm.cmm_parameters import CMMParameters, Objective
from modalign.methods.cmm.cmm_selection import CAREFUL, Found, SelectedStep, Training, Trial, moments, search
from modalign.methods.cmm.cmm_training import CMMRun, Schedule, map_rows
from modalign.methods.contract.best_candidate import Criterion
from modalign.methods.contract.calibrating import lone_labels_temperature
from modalign.methods.contract.divisions import SelectionSplit, SelectionSplits, selection_splits
from modalign.methods.contract.estimators.mapping import MappingMethod
from modalign.methods.contract.parameters import Count, NonNegative, Positive, Range, Seed
from modalign.methods.contract.selection import held_out
from modalign.methods.contract.training_steps import BLOCK, batch_order, seeded
from modalign.methods.contract.vectors import Problem
from modalign.tune.threads import threads_for_steps, using_threads

MEANS_SCALE = 10.0  # if class means replace text
PRESETS: dict[str | None, dict[str, Any]] = {
    "paper": {
        "steps": 16_000, "batch_size": 8, "learning_rate": 1e-4, "min_learning_rate": 1e-5, "init": "linear",
        "min_zero_shot_weight": 0.1, "max_zero_shot_weight": 1.0, "criterion": "accuracy",
    },
    None: {
        "batch_size": 32, "learning_rate": 3e-4, "init": "zero",
        "min_zero_shot_weight": 1.0, "max_zero_shot_weight": 2.0, "criterion": "log-loss",
    },
}  # fmt: skip
EARLIEST = {True: 256, False: 1024}
"""Steps before which the search does not stop, with and without text: without, accuracy falls before it rises."""
NOTHING = SelectionSplits((), "nothing")


@dataclass(kw_only=True, eq=False, repr=False)
class CMM(MappingMethod):
    r"""Cross-modal mapping classifier.

    Learns a linear map W of the image features and adapts the class text features at the same time, so that images and
    texts of the same class align. Predictions add the cosine similarity of zero-shot CLIP. Equations:
    :mod:`modalign.methods.cmm.cmm`.

    Parameters
    ----------
    preset : {"paper"} or None, default=None
        ``"paper"`` sets every parameter that is None to the published value; None to the values of this library.
    steps : int or None, default=None
        Optimizer steps. None selects them; 16,000 in ``"paper"``.
    max_steps, patience : int, default=4096 and 3
        Largest number of steps to select; evaluations without a gain after which the search stops.
    map : bool, default=True
        Whether W is trained. If False, only the texts are.
    batch_size, learning_rate : int and float or None, default=None
        Images per step, None is 32 (paper: 8); peak learning rate of AdamW, None is 3e-4 (paper: 1e-4).
    min_learning_rate : float or None, default=None
        Final learning rate of the cosine. None keeps it constant; 1e-5 in ``"paper"``.
    warmup_steps, weight_decay : int and float, default=50 and 0.01
        Steps of linear warmup; decoupled weight decay of W and T.
    init : {"linear", "kaiming", "zero"} or None, default=None
        Initial W: variance 1/(3d), 2/d, or 0 (zero-shot). None is ``"zero"``; ``"linear"`` in ``"paper"``.
    layers : int, default=1
        Residual linear layers, with ReLU between them.
    margin, triplet_weight : float, default=1.0
        m of the triplet loss; weight of the triplet loss, 0 omits it.
    training_zero_shot_weight, zero_shot_weight : float or "auto", default=1.0 and "auto"
        β in training; β in prediction, where 0 ignores zero-shot, 1 adds both equally and ``"auto"`` selects it.
    min_zero_shot_weight, max_zero_shot_weight : float or None, default=None
        Least β to select, None is 1.0 (paper: 0.1); largest β, in steps of 0.1, None is 2.0 (paper: 1.0).
    criterion : {"log-loss", "accuracy"} or None, default=None
        Criterion on held-out images. None is ``"log-loss"``; ``"accuracy"`` in ``"paper"``.
    logit_scale : float or None, default=None
        1/τ. None is that of the encoder with text, and 10 without.
    random_state : int or None, default=None
        Seed of W, of the order of the images and of the folds.

    Attributes
    ----------
    prototypes_, text_ : Tensor of shape (C, d)
        T and t, unit rows; t are the class texts as passed to `fit`.
    weights_ : Tensor of shape (n_layers, d, d)
        W of each layer.
    steps_, zero_shot_weight_, init_, layers_, logit_scale_ : object
        Values used; without a step, ``init_`` is ``"zero"`` and ``layers_`` 1.
    step_curve_, fusion_curve_ : dict
        Accuracy and log-likelihood on held-out images by number of steps, and by β; empty if nothing was selected.
    diagnosis_ : dict
        Selected values, modality gap before and after, and validation accuracy with and without each component.

    Examples
    --------
    >>> import modalign as ma
    >>> from modalign.testing import few_shot_problem
    >>> X, y, Xv, yv, Xt, yt, T = few_shot_problem()
    >>> cmm = ma.CMM(max_steps=64, random_state=0).fit(X, y, text=T, validation=(Xv, yv))
    >>> cmm.predict(T)
    array([0, 1, 2, 3, 4])
    """

    title = "CMM"
    paper = "Yang et al., Cross-modal mapping: mitigating the modality gap, 2024, arXiv:2412.20110"
    mirrors: ClassVar[bool] = True
    choices: ClassVar[tuple[str, ...]] = ("steps", "zero_shot_weight", "init", "layers")
    cross_validates: ClassVar[bool] = True
    ablations: ClassVar[dict[str, dict[str, Any]]] = {
        "no map": {"map": False},
        "no triplet loss": {"triplet_weight": 0.0},
        "no zero-shot scores": {"training_zero_shot_weight": 0.0, "zero_shot_weight": 0.0},
        "zero-shot scores with weight 1": {"zero_shot_weight": 1.0},
    }

    preset: Literal["paper"] | None = None
    steps: Annotated[int, Range(0)] | None = None
    max_steps: Count = 4096
    patience: Count = 3
    map: bool = True
    batch_size: Count | None = None
    learning_rate: Positive | None = None
    min_learning_rate: NonNegative | None = None
    warmup_steps: Annotated[int, Range(0)] = 50
    weight_decay: NonNegative = 0.01
    init: Literal["linear", "kaiming", "zero"] | None = None
    layers: Annotated[int, Range(1, 8)] = 1
    margin: NonNegative = 1.0
    triplet_weight: NonNegative = 1.0
    training_zero_shot_weight: Annotated[NonNegative, Formerly("training_fusion")] = 1.0
    zero_shot_weight: Annotated[NonNegative | Literal["auto"], Formerly("fusion")] = "auto"
    min_zero_shot_weight: Annotated[NonNegative | None, Formerly("fusion_low")] = None
    max_zero_shot_weight: Annotated[NonNegative | None, Formerly("fusion_high")] = None
    criterion: Criterion | None = None
    logit_scale: Positive | None = None
    random_state: Seed = None

    def _fit(self, problem: Problem) -> None:
        if self.logit_scale is None and problem.text is None:
            self.logit_scale_ = MEANS_SCALE
        own = self._settled()
        X, y = problem.labeled()
        X, self.text_ = unit(X), problem.prototypes()
        found, divided, training = own._search(problem, X, y)
        self.steps_ = steps = found.choice.steps
        if steps == 0 and own.steps is None:
            own.set_params(init="zero", layers=1)
        self.init_, self.layers_, self.zero_shot_weight_ = own.init, own.layers, found.choice.zero_shot_weight
        if training is None or training.run.steps != steps:
            training = own._training(X, y, self.text_, steps)
            with using_threads(threads_for_steps(training.run.learner.flat.numel())):
                training.run.advance(steps)
        weights, record = training.run.learner.weights, training.run.record()

        d = X.shape[1]
        self.weights_ = torch.stack(weights) if own.map else X.new_zeros(1, d, d)
        self.prototypes_, self.losses_ = training.prototypes(), record.losses
        self.step_curve_, self.fusion_curve_ = found.step_curve, found.fusion_curve
        known = held_out(problem.validation)
        if found.choice.scores is not None:
            self._calibrate(self.logit_scale_ * found.choice.scores, divided.y, divided.growth(y))
        elif known is None:
            weight = 1 + self.zero_shot_weight_
            self.temperature_ = weight * lone_labels_temperature(problem, self._scores(X) / weight, self.logit_scale_)
        last_tenth = record.triplet_active[-max(1, steps // 10) :]
        self.diagnosis_ = {
            "step": steps,
            "zero_shot_weight": self.zero_shot_weight_,
            "chosen_on": divided.source,
            "triplet_active": last_tenth.mean().item() if steps else 0.0,
            **movement(X, self._mapped(X), self.text_, self.prototypes_),
        }
        if known is not None:
            rows = unit(known[0])
            mapped, weight = self._mapped(rows), self.zero_shot_weight_
            self.diagnosis_ |= ablation(rows, mapped, known[1], self.text_, self.prototypes_, weight)

    def _search(self, problem: Problem, X: Tensor, y: Tensor) -> tuple[Found, SelectionSplits, Training | None]:
        """Return steps and β, the images they were selected on, and the run on all labeled images if there was one."""
        grid = self._fusion_grid()
        chosen = self.steps is None or len(grid) > 1
        divided = selection_splits(problem, self.random_state, cross_validate=chosen and self.preset is None)
        if not divided.parts or not chosen:
            steps = CAREFUL[0] if self.steps is None else self.steps
            unchosen = CAREFUL[1] if self.preset is None else self.training_zero_shot_weight
            return Found(SelectedStep(steps, grid[0] if len(grid) == 1 else unchosen, None)), NOTHING, None
        steps_to_evaluate = moments(self.max_steps) if self.steps is None else [self.steps]
        no_step = None if self.steps is not None else grid[0] if len(grid) == 1 else self.training_zero_shot_weight
        trials = [self._trial(part, X, y, problem, steps_to_evaluate[-1]) for part in divided.parts]
        assert self.criterion is not None
        CMMRun.together([trial.training.run for trial in trials])
        with using_threads(threads_for_steps(trials[0].training.run.learner.flat.numel())):
            found = search(
                trials, divided.y, steps_to_evaluate, grid, self.criterion,
                patience=self.patience, earliest=EARLIEST[problem.text is not None], no_step=no_step,
            )  # fmt: skip
        return found, divided, trials[0].training if divided.parts[0].whole else None

    def _trial(self, part: SelectionSplit, X: Tensor, y: Tensor, problem: Problem, steps: int) -> Trial:
        rows, labels = X[part.rows], y[part.rows]
        text = class_means(rows, labels, problem.n_classes) if problem.text is None else problem.prototypes()
        return Trial(self._training(rows, labels, text, steps), unit(part.X))

    def _training(self, X: Tensor, y: Tensor, text: Tensor, steps: int) -> Training:
        """Prepare a training of up to ``steps`` steps on these images."""
        assert self.logit_scale is not None
        assert self.batch_size is not None
        assert self.learning_rate is not None
        assert self.min_learning_rate is not None
        generator = seeded(self.random_state)
        objective = Objective(self.logit_scale, self.training_zero_shot_weight, self.margin, self.triplet_weight)
        weights = self._initial_weights(X.shape[1], generator, X.device) if self.map else []
        whole = -(-steps // BLOCK) * BLOCK  # the last block of a short run has the shape that it has in a long one
        order = batch_order(len(X), min(self.batch_size, len(X)), whole, generator)
        classes = torch.arange(len(text), device=y.device) if self.preset == "paper" else y.unique()
        learner = CMMParameters(weights, text[classes], objective)
        schedule = Schedule(steps, self.learning_rate, self.min_learning_rate, self.warmup_steps, self.weight_decay)
        return Training(CMMRun(learner, X, torch.searchsorted(classes, y), order, schedule), text, classes)

    @property
    def _n_features_out(self) -> int:
        return self.n_features_in_

    def _mapped_vectors(self, X: Tensor) -> Tensor:
        return self._mapped(unit(X))

    def _mapped(self, X: Tensor) -> Tensor:
        return unit(map_rows(self.weights_.to(X.device).unbind(), X))

    def _scores(self, X: Tensor) -> Tensor:
        X = unit(X)
        own = self._mapped(X) @ self.prototypes_.to(X.device).T
        return own.add_(X @ self.text_.to(X.device).T, alpha=self.zero_shot_weight_).mul_(self.logit_scale_)

    def _initial_weights(self, d: int, generator: torch.Generator, device: torch.device) -> list[Tensor]:
        """Drawn on the CPU, so that one seed gives one start on every device."""
        if self.init == "zero":
            return [torch.zeros(d, d, device=device) for _ in range(self.layers)]
        if self.init == "linear":
            bound = d**-0.5
            draws = [torch.rand(d, d, generator=generator).mul_(2 * bound).sub_(bound) for _ in range(self.layers)]
        else:
            draws = [torch.randn(d, d, generator=generator).mul_((2 / d) ** 0.5) for _ in range(self.layers)]
        return [W.to(device) for W in draws]

    def _settled(self) -> Self:
        """Return a copy with all None parameters set, except the number of steps if it is to be selected."""
        open_ones = {name: value for name, value in PRESETS[self.preset].items() if getattr(self, name) is None}
        own = type(self)(**{**self.get_params(), **open_ones})
        if own.min_learning_rate is None:
            own.min_learning_rate = own.learning_rate
        own.logit_scale = self.logit_scale_
        own.random_state = self.random_state_
        for low, high in (("min_learning_rate", "learning_rate"), ("min_zero_shot_weight", "max_zero_shot_weight")):
            if getattr(own, low) > getattr(own, high):
                raise InputError(f"Expected {low} ≤ {high}, got {getattr(own, low):g} > {getattr(own, high):g}.")
        return own

    def _fusion_grid(self) -> list[float]:
        if self.zero_shot_weight != "auto":
            return [float(self.zero_shot_weight)]
        low, high = self.min_zero_shot_weight or 0.0, self.max_zero_shot_weight or 0.0
        return [round(low + 0.1 * i, 10) for i in range(int((high - low) / 0.1 + 1e-6) + 1)]
