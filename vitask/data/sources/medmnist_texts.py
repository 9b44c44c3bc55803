"""What MedMNIST's 12 two-dimensional sets are called in instructions and answers, in the form of a label file.

MedMNIST's own strings stay where they read well; bare digits, commas, brackets and truncated names are replaced.
Synonyms count as the label when a generated answer is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vitask.data.labels import Label, parse_labels

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
    "femur-left": {"text": "left femur", "synonyms": ["femur left", "femur-left"]},
    "femur-right": {"text": "right femur", "synonyms": ["femur right", "femur-right"]},
    "kidney-left": {"text": "left kidney", "synonyms": ["kidney left", "kidney-left"]},
    "kidney-right": {"text": "right kidney", "synonyms": ["kidney right", "kidney-right"]},
    "lung-left": {"text": "left lung", "synonyms": ["lung left", "lung-left"]},
    "lung-right": {"text": "right lung", "synonyms": ["lung right", "lung-right"]},
}

# The definitions follow the International Clinical Diabetic Retinopathy scale (Wilkinson et al., Ophthalmology 2003).
_RETINOPATHY = {
    "0": {
        "text": "no retinopathy",
        "synonyms": ["no diabetic retinopathy", "no DR", "no apparent retinopathy"],
        "definition": "no abnormalities",
    },
    "1": {
        "text": "mild retinopathy",
        "synonyms": ["mild diabetic retinopathy", "mild DR", "mild NPDR", "mild non-proliferative retinopathy"],
        "definition": "microaneurysms only",
    },
    "2": {
        "text": "moderate retinopathy",
        "synonyms": [
            "moderate diabetic retinopathy",
            "moderate DR",
            "moderate NPDR",
            "moderate non-proliferative retinopathy",
        ],
        "definition": "more than microaneurysms, but less than severe retinopathy",
    },
    "3": {
        "text": "severe retinopathy",
        "synonyms": ["severe diabetic retinopathy", "severe DR", "severe NPDR", "severe non-proliferative retinopathy"],
        "definition": "many haemorrhages in all quadrants, venous beading in two, or microvascular abnormalities in "
        "one, but no sign of proliferation",
    },
    "4": {
        "text": "proliferative retinopathy",
        "synonyms": ["proliferative diabetic retinopathy", "proliferative DR", "PDR"],
        "definition": "new vessels, or vitreous or preretinal haemorrhage",
    },
}

LABELS: dict[str, dict[str, Any]] = {
    "pathmnist": {
        "adipose": {"synonyms": ["adipose tissue", "fat"]},
        "lymphocytes": {"synonyms": ["lymphocyte"]},
        "normal colon mucosa": {"synonyms": ["normal mucosa"]},
        "cancer-associated stroma": {"synonyms": ["cancer associated stroma"]},
        "colorectal adenocarcinoma epithelium": {"synonyms": ["adenocarcinoma epithelium"]},
    },
    "chestmnist": {"pleural": {"text": "pleural thickening", "synonyms": ["pleural"]}},
    "dermamnist": {
        "actinic keratoses and intraepithelial carcinoma": {"synonyms": ["actinic keratosis", "actinic keratoses"]},
        "benign keratosis-like lesions": {"synonyms": ["benign keratosis-like lesion", "benign keratosis"]},
        "melanocytic nevi": {"synonyms": ["melanocytic nevus", "nevus", "nevi"]},
        "vascular lesions": {"synonyms": ["vascular lesion"]},
    },
    "octmnist": {
        "choroidal neovascularization": {"synonyms": ["CNV", "choroidal neovascularisation"]},
        "diabetic macular edema": {"synonyms": ["DME", "diabetic macular oedema"]},
    },
    "pneumoniamnist": {},
    "retinamnist": _RETINOPATHY,
    "breastmnist": {"normal, benign": {"text": "normal or benign", "synonyms": ["normal, benign", "benign", "normal"]}},
    "bloodmnist": {
        "immature granulocytes(myelocytes, metamyelocytes and promyelocytes)": {
            "text": "immature granulocyte",
            "synonyms": ["immature granulocytes"],
            "definition": "myelocyte, metamyelocyte or promyelocyte",
        },
    },
    "tissuemnist": {
        "Collecting Duct, Connecting Tubule": {
            "text": "collecting duct or connecting tubule",
            "synonyms": ["Collecting Duct, Connecting Tubule", "collecting duct", "connecting tubule"],
        },
        "Distal Convoluted Tubule": "distal convoluted tubule",
        "Glomerular endothelial cells": {
            "text": "glomerular endothelial cell",
            "synonyms": ["Glomerular endothelial cells"],
        },
        "Interstitial endothelial cells": {
            "text": "interstitial endothelial cell",
            "synonyms": ["Interstitial endothelial cells"],
        },
        "Leukocytes": {"text": "leukocyte", "synonyms": ["Leukocytes"]},
        "Podocytes": {"text": "podocyte", "synonyms": ["Podocytes"]},
        "Proximal Tubule Segments": {"text": "proximal tubule segment", "synonyms": ["Proximal Tubule Segments"]},
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


def shipped_labels(name: str) -> Mapping[str, Label]:
    """Return this package's texts, synonyms and definitions for a set, by MedMNIST's own strings.

    Example:
        >>> shipped_labels("retinamnist")["0"].text
        'no retinopathy'
    """
    return parse_labels(LABELS[name], name)
