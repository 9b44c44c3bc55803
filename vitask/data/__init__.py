"""Data: sources give a `TaskData`; conditions harden it; instructions and negatives turn it into training material."""

from vitask.data.conditions import with_imbalance, with_label_noise, with_train_fraction
from vitask.data.images import UnreadableImage, shrunk, upright_rgb
from vitask.data.instructions import Hint, Instruction
from vitask.data.mixture import answer_ranges, label_ranges, member_of_answer, members_of, mix, row_ranges
from vitask.data.negative_rule import NegativeRule
from vitask.data.negatives import NO_NEGATIVE, BatchNegatives, DatasetNegatives, InstructionNegatives
from vitask.data.open_task import instruction_ids, make_open_task, pictures_of
from vitask.data.options import DataOptions
from vitask.data.responses import comparable, token_f1
from vitask.data.shift import Shift, with_shift
from vitask.data.sources.digits import load_digits_task
from vitask.data.sources.ham10000 import load_ham10000_task
from vitask.data.sources.hub import load_hub_task
from vitask.data.sources.image_folder import images_below, load_image_folder_task
from vitask.data.sources.instruction_table import load_instruction_task
from vitask.data.sources.medmnist import load_medmnist_task
from vitask.data.sources.retinopathy import load_aptos2019_task, load_idrid_task, load_messidor_task
from vitask.data.sources.table import Columns, load_table_task
from vitask.data.sources.vectors import Vectors, read_vectors, vectors_digest
from vitask.data.split import Split
from vitask.data.task import Answer, TaskData, make_task

__all__ = [
    "NO_NEGATIVE",
    "Answer",
    "BatchNegatives",
    "Columns",
    "DataOptions",
    "DatasetNegatives",
    "Hint",
    "Instruction",
    "InstructionNegatives",
    "NegativeRule",
    "Shift",
    "Split",
    "TaskData",
    "UnreadableImage",
    "Vectors",
    "answer_ranges",
    "comparable",
    "images_below",
    "instruction_ids",
    "label_ranges",
    "load_aptos2019_task",
    "load_digits_task",
    "load_ham10000_task",
    "load_hub_task",
    "load_idrid_task",
    "load_image_folder_task",
    "load_instruction_task",
    "load_medmnist_task",
    "load_messidor_task",
    "load_table_task",
    "make_open_task",
    "make_task",
    "member_of_answer",
    "members_of",
    "mix",
    "pictures_of",
    "read_vectors",
    "row_ranges",
    "shrunk",
    "token_f1",
    "upright_rgb",
    "vectors_digest",
    "with_imbalance",
    "with_label_noise",
    "with_shift",
    "with_train_fraction",
]
