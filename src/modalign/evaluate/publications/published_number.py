"""One number of one table of one paper."""

from __future__ import annotations

from dataclasses import dataclass

from modalign.data.splits.benchmarks import ListName

PAPERS = {
    "cmm": "Cross-Modal Mapping: Mitigating the Modality Gap for Few-Shot Image Classification",
    "align": "Wang et al., Tuning Multi-mode Token-level Prompt Alignment across Modalities",
    "dam": "Lu et al., Fine-Tuning via Linked Domains: A Closed-Form Dual Alignment Mechanism for Transferring "
    "Vision-Language Models",
    "fair": "Ali et al., Towards Fine-Grained Adaptation of CLIP via a Self-Trained Alignment Score",
    "gpua": "Yu et al., Geometry-Preserving Unsupervised Alignment for Heterogeneous Foundation Models",
}


@dataclass(frozen=True)
class Published:
    """One number of one table.

    Attributes
    ----------
    paper, table : str
        Its paper; :data:`PAPERS` has the title.
    setting : str
        The protocol.
    method, dataset, backbone : str
        What was measured on what.
    metric : str
        ``top-1``, ``base``, ``new``, ``harmonic mean``, ``mIoU``, ``gain``, ``parameters``, ``trainable parameters``,
        ``seconds``, ``iterations``, ``fusion weight``, ``KL divergence`` or a hyper-parameter that was learned.
    value : float
        Percent for accuracies and mIoU, points for a gain, else in its base unit.
    shots : int or None
        Labeled images per class; None where the table does not vary them; its setting has the number.
    caution : str
        Why not to rely on it, if there is a reason.
    printed : str
        The number as the table has it.
    split : {"coop", "vissl", "own"}
        The lists of images.
    n_test : int or None
        Test images; None for averages, halves of the classes, and metrics that are none of images.
    prompts : str
        The sentences of the classes.
    seeds : int or None
        Draws that were averaged, by the paper or by CoOp's protocol; None where neither gives the number, and without
        labels.
    """

    paper: str
    table: str
    setting: str
    method: str
    dataset: str
    backbone: str
    metric: str
    value: float
    shots: int | None = None
    caution: str = ""
    printed: str = ""
    split: ListName = "coop"
    n_test: int | None = None
    prompts: str = ""
    seeds: int | None = None

    @property
    def source(self) -> str:
        """Title and table, for a footnote."""
        return f"{PAPERS[self.paper]}, {self.table} ({self.backbone}, {self.setting})"
