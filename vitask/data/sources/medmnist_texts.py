"""What MedMNIST's 12 two-dimensional sets are called in instructions and answers.

MedMNIST's own strings stay where they read well; bare digits, commas, brackets and truncated names are replaced.
"""

from __future__ import annotations

MODALITIES = {
    "pathmnist": "colon pathology",
    "chestmnist": "chest X-ray",
    "dermamnist": "dermatoscopic",
    "octmnist": "retinal OCT",
    "pneumoniamnist": "pediatric chest X-ray",
    "retinamnist": "retinal fundus",
    "breastmnist": "breast ultrasound",
    "bloodmnist": "blood cell microscopy",
    "tissuemnist": "kidney cortex microscopy",
    "organamnist": "axial abdominal CT",
    "organcmnist": "coronal abdominal CT",
    "organsmnist": "sagittal abdominal CT",
}

_ORGANS = {
    "femur-left": "left femur",
    "femur-right": "right femur",
    "kidney-left": "left kidney",
    "kidney-right": "right kidney",
    "lung-left": "left lung",
    "lung-right": "right lung",
}

LABEL_TEXTS = {
    "chestmnist": {"pleural": "pleural thickening"},
    "retinamnist": {
        "0": "no retinopathy",
        "1": "mild retinopathy",
        "2": "moderate retinopathy",
        "3": "severe retinopathy",
        "4": "proliferative retinopathy",
    },
    "breastmnist": {"normal, benign": "normal or benign"},
    "bloodmnist": {"immature granulocytes(myelocytes, metamyelocytes and promyelocytes)": "immature granulocyte"},
    "tissuemnist": {
        "Collecting Duct, Connecting Tubule": "collecting duct or connecting tubule",
        "Distal Convoluted Tubule": "distal convoluted tubule",
        "Glomerular endothelial cells": "glomerular endothelial cell",
        "Interstitial endothelial cells": "interstitial endothelial cell",
        "Leukocytes": "leukocyte",
        "Podocytes": "podocyte",
        "Proximal Tubule Segments": "proximal tubule segment",
        "Thick Ascending Limb": "thick ascending limb",
    },
    "organamnist": _ORGANS,
    "organcmnist": _ORGANS,
    "organsmnist": _ORGANS,
}

CAVEATS = {
    "dermamnist": {
        "leakage": "images of one lesion occur in several splits (Abhishek et al., Scientific Data 2025)",
    },
}
