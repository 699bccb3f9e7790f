"""DAM's Table I: base-to-new on eleven data sets, as printed."""

from __future__ import annotations

from modalign.evaluate.publications.printed_block import BASE_NEW, PrintedBlock


def _half(dataset: str, rows: str) -> PrintedBlock:
    fixed = {"dataset": dataset, "shots": 16}
    return PrintedBlock("Table I", "base-to-new", "ViT-B/16", {"metric": BASE_NEW}, rows, fixed)


TABLE = (
    _half("average", """
        CLIP: 69.34 74.22 71.70
        CoCoOp: 80.47 71.69 75.83
        LFA: 83.62 74.56 78.83
        MaPLe: 82.28 75.14 78.55
        PromptSRC: 84.26 76.10 79.97
        CoPrompt: 84.00 77.23 80.48
        HPT: 84.32 76.86 80.42
        DECoOp: - - 76.13
        2SFS: 85.55 75.48 80.20
        FCPrompt-G: 85.28 75.72 80.22
        DAM: 84.53 78.12 81.20"""),
    _half("imagenet", """
        CLIP: 72.43 68.14 70.22
        CoCoOp: 75.98 70.43 73.10
        LFA: 76.89 69.36 72.93
        MaPLe: 76.66 70.54 73.47
        PromptSRC: 77.60 70.73 74.01
        CoPrompt: 77.67 71.27 74.33
        HPT: 77.95 70.74 74.17
        DECoOp: - - 72.98
        2SFS: 77.71 70.99 74.20
        FCPrompt-G: 77.33 71.11 74.09
        DAM: 78.00 71.53 74.63"""),
    _half("caltech101", """
        CLIP: 96.84 94.00 95.40
        CoCoOp: 97.96 93.81 95.84
        LFA: 98.41 93.93 96.13
        MaPLe: 97.74 94.36 96.02
        PromptSRC: 98.10 94.03 96.02
        CoPrompt: 98.27 94.90 96.55
        HPT: 98.37 94.98 96.65
        DECoOp: - - 96.52
        2SFS: 98.71 94.43 96.52
        FCPrompt-G: 98.41 94.07 96.19
        DAM: 98.20 96.13 97.15"""),
    _half("oxford_pets", """
        CLIP: 91.17 97.26 94.12
        CoCoOp: 95.20 97.69 96.43
        LFA: 95.13 96.23 95.68
        MaPLe: 95.43 97.76 96.58
        PromptSRC: 95.33 97.30 96.30
        CoPrompt: 95.67 98.10 96.87
        HPT: 95.78 97.65 96.71
        DECoOp: - - 95.27
        2SFS: 95.32 97.82 96.55
        FCPrompt-G: 96.40 97.89 97.14
        DAM: 95.97 98.17 97.06"""),
    _half("stanford_cars", """
        CLIP: 63.37 74.89 68.65
        CoCoOp: 70.49 73.59 72.01
        LFA: 76.32 74.88 75.59
        MaPLe: 72.94 74.00 73.47
        PromptSRC: 78.27 74.97 76.58
        CoPrompt: 76.97 74.40 75.66
        HPT: 76.95 74.23 75.57
        DECoOp: - - 73.24
        2SFS: 82.50 74.80 78.46
        FCPrompt-G: 80.87 73.03 76.75
        DAM: 79.97 75.30 77.57"""),
    _half("oxford_flowers", """
        CLIP: 72.08 77.80 74.83
        CoCoOp: 94.87 71.75 81.71
        LFA: 97.34 75.44 85.00
        MaPLe: 95.92 72.46 82.56
        PromptSRC: 98.07 76.50 85.95
        CoPrompt: 97.27 76.60 85.71
        HPT: 98.17 78.37 87.16
        DECoOp: - - 84.16
        2SFS: 98.29 76.17 85.83
        FCPrompt-G: 98.32 74.82 84.98
        DAM: 97.47 80.30 88.06"""),
    _half("food101", """
        CLIP: 90.10 91.22 90.66
        CoCoOp: 90.70 91.29 90.99
        LFA: 90.52 91.48 91.00
        MaPLe: 90.71 92.05 91.38
        PromptSRC: 90.67 91.53 91.10
        CoPrompt: 90.73 92.07 91.40
        HPT: 90.46 91.57 91.01
        DECoOp: - - 90.68
        2SFS: 89.11 91.34 90.21
        FCPrompt-G: 90.76 92.19 91.47
        DAM: 90.97 91.53 91.25"""),
    _half("fgvc_aircraft", """
        CLIP: 27.19 36.29 31.09
        CoCoOp: 33.41 23.71 27.74
        LFA: 41.48 32.29 36.31
        MaPLe: 37.44 35.61 36.50
        PromptSRC: 42.73 37.87 40.15
        CoPrompt: 40.20 39.33 39.76
        HPT: 42.68 38.13 40.28
        DECoOp: - - 31.44
        2SFS: 47.48 35.51 40.63
        FCPrompt-G: 43.68 36.97 40.05
        DAM: 41.93 38.40 40.09"""),
    _half("sun397", """
        CLIP: 69.36 75.35 72.23
        CoCoOp: 79.74 76.86 78.27
        LFA: 82.13 77.20 79.59
        MaPLe: 80.82 78.70 79.75
        PromptSRC: 82.67 78.47 80.52
        CoPrompt: 82.63 80.03 81.31
        HPT: 82.57 79.26 80.88
        DECoOp: - - 78.11
        2SFS: 82.59 78.91 80.70
        FCPrompt-G: 82.93 79.06 80.95
        DAM: 82.87 80.03 81.43"""),
    _half("dtd", """
        CLIP: 53.24 59.90 56.37
        CoCoOp: 77.01 56.00 64.85
        LFA: 81.29 60.63 69.46
        MaPLe: 80.36 59.18 68.16
        PromptSRC: 83.37 62.97 71.75
        CoPrompt: 83.13 64.73 72.79
        HPT: 83.84 63.33 72.16
        DECoOp: - - 62.72
        2SFS: 84.60 65.01 73.52
        FCPrompt-G: 84.61 60.31 70.42
        DAM: 84.13 64.97 73.32"""),
    _half("eurosat", """
        CLIP: 56.48 64.05 60.03
        CoCoOp: 87.49 60.04 71.21
        LFA: 93.40 71.24 80.83
        MaPLe: 94.07 73.23 82.35
        PromptSRC: 92.90 73.90 82.32
        CoPrompt: 94.60 78.57 85.84
        HPT: 94.24 77.12 84.82
        DECoOp: - - 74.61
        2SFS: 96.91 67.09 79.29
        FCPrompt-G: 96.80 75.21 84.65
        DAM: 93.10 82.07 87.24"""),
    _half("ucf101", """
        CLIP: 70.53 77.50 73.85
        CoCoOp: 82.33 73.45 77.64
        LFA: 86.97 77.48 81.95
        MaPLe: 83.00 78.66 80.77
        PromptSRC: 87.10 78.80 82.74
        CoPrompt: 86.90 79.57 83.07
        HPT: 86.52 80.06 83.16
        DECoOp: - - 77.67
        2SFS: 87.85 78.19 82.74
        FCPrompt-G: 87.99 78.28 82.85
        DAM: 87.20 80.90 83.93"""),
)  # fmt: skip
