"""Data: sources give a `TaskData`; conditions harden it; instructions and negatives turn it into training material."""

from vitask.data.conditions import with_imbalance, with_label_noise, with_train_fraction
from vitask.data.instructions import Instruction
from vitask.data.negatives import BatchNegatives, DatasetNegatives
from vitask.data.sources.digits import load_digits_task
from vitask.data.sources.image_folder import load_image_folder_task
from vitask.data.sources.medmnist import load_medmnist_task
from vitask.data.task import Answer, TaskData, make_task

__all__ = [
    "Answer",
    "BatchNegatives",
    "DatasetNegatives",
    "Instruction",
    "TaskData",
    "load_digits_task",
    "load_image_folder_task",
    "load_medmnist_task",
    "make_task",
    "with_imbalance",
    "with_label_noise",
    "with_train_fraction",
]
