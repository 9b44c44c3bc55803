"""Sets in their published layouts: eight to a few dozen images, and tables as their authors write them."""

import numpy as np
import pytest
from PIL import Image

from vitask.data import (
    Instruction,
    load_aptos2019_task,
    load_ham10000_task,
    load_idrid_task,
    load_medmnist_task,
    load_messidor_task,
)
from vitask.errors import VitaskError

RETINA = (
    "no retinopathy",
    "mild retinopathy",
    "moderate retinopathy",
    "severe retinopathy",
    "proliferative retinopathy",
)
DIAGNOSES = ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")


@pytest.fixture
def paint(tmp_path):
    rng = np.random.default_rng(0)

    def paint(name):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(256, size=(12, 16, 3), dtype=np.uint8)).save(path)
        return path

    return paint


@pytest.fixture
def options(tmp_path):
    return {"cache_dir": tmp_path / "cache"}


@pytest.fixture
def aptos(tmp_path, paint):
    for i in range(30):
        paint(f"aptos/train_images/{i:012x}.png")
    paint("aptos/test_images/ffff.png")
    rows = "".join(f"{i:012x},{i % 5}\n" for i in range(30))
    (tmp_path / "aptos/train.csv").write_text(f"id_code,diagnosis\n{rows}")
    (tmp_path / "aptos/test.csv").write_text("id_code\nffff\n")
    return tmp_path / "aptos"


@pytest.fixture
def idrid(tmp_path, paint):
    root = tmp_path / "IDRiD/B. Disease Grading"
    parts = (("a. ", "Training", 20), ("b. ", "Testing", 10))
    for letter, word, count in parts:
        for i in range(1, count + 1):
            paint(f"IDRiD/B. Disease Grading/1. Original Images/{letter}{word} Set/IDRiD_{i:03d}.jpg")
        (root / "2. Groundtruths").mkdir(exist_ok=True)
        rows = "".join(f"IDRiD_{i:03d},{(i + len(word)) % 5},0,,,\n" for i in range(1, count + 1))
        table = root / f"2. Groundtruths/{letter}IDRiD_Disease Grading_{word} Labels.csv"
        table.write_text(f"Image name,Retinopathy grade,Risk of macular edema ,,,\n{rows}")
    return tmp_path / "IDRiD"


@pytest.fixture
def messidor(tmp_path, paint):
    for base in (11, 12):
        for i in range(12):
            paint(f"messidor/Base{base}/20051020_{base}{i:03d}_0100_PP.tif")
        rows = "".join(f"20051020_{base}{i:03d}_0100_PP.tif;Service;{i % 4};0\n" for i in range(12))
        header = "Image name;Ophthalmologic department;Retinopathy grade;Risk of macular edema \n"
        (tmp_path / f"messidor/Annotation_Base{base}.csv").write_text(header + rows)
    return tmp_path / "messidor"


@pytest.fixture
def messidor2(tmp_path, paint):
    rows = []
    for i in range(16):
        paint(f"messidor2/IMAGES/20060411_{i:03d}_PP.{'png' if i % 2 else 'JPG'}")
        rows.append(f"20060411_{i:03d}_PP.png,{'' if i == 3 else float(i % 5)},0.0,{int(i != 3)}\n")
    header = "image_id,adjudicated_dr_grade,adjudicated_dme,adjudicated_gradable\n"
    (tmp_path / "messidor2/messidor_data.csv").write_text(header + "".join(rows))
    return tmp_path / "messidor2"


@pytest.fixture
def ham(tmp_path, paint):
    rows = []
    for i in range(140):
        paint(f"ham/HAM10000_images_part_{1 + i % 2}/ISIC_{i:07d}.jpg")
        rows.append(f"HAM_{i // 2:07d},ISIC_{i:07d},{DIAGNOSES[i // 2 % 7]},histo,80.0,male,scalp\n")
    header = "lesion_id,image_id,dx,dx_type,age,sex,localization\n"
    (tmp_path / "ham/HAM10000_metadata.csv").write_text(header + "".join(rows))
    return tmp_path / "ham"


def sizes(task):
    return [len(rows) for rows in task.splits.values()]


def test_aptos(aptos, options):
    task = load_aptos2019_task(aptos, fractions=(0.7, 0.1, 0.2), **options)
    assert (task.name, task.labels, task.modality, task.ordinal) == ("aptos2019", RETINA, "retinal fundus", True)
    assert sum(sizes(task)) == 30
    for row in task.splits["train"]:
        assert row["answer"] == int(row["id"], 16) % 5
        path = aptos / f"train_images/{row['id']}.png"
        assert np.array_equal(np.asarray(row["image"]), np.asarray(Image.open(path)))


def test_idrid_keeps_its_test_set_and_the_two_sets_count_alike(idrid, options):
    for root in (idrid, idrid / "B. Disease Grading"):
        task = load_idrid_task(root, **options)
        assert sizes(task) == [15, 5, 10]
        assert "taken out" in task.notes["split"]
        assert task.splits["test"]["id"][:2] == ["test/IDRiD_001", "test/IDRiD_002"]
        assert task.splits["test"]["answer"][:2] == [3, 4]
        assert task.splits["train"]["id"][0].startswith("train/IDRiD_")
        assert "duplicate images" not in task.notes


def test_messidor_has_four_grades_of_its_own(messidor, options):
    task = load_messidor_task(messidor, **options)
    assert (task.name, task.labels) == ("messidor", RETINA)
    assert sum(sizes(task)) == 24
    assert "MESSIDOR has four grades" in task.notes["grading"]
    assert task.notes["missing classes"] == "no image of 'proliferative retinopathy' in train, val, test"


def test_messidor2_leaves_out_what_has_no_grade_and_finds_images_of_other_endings(messidor2, options):
    task = load_messidor_task(messidor2, fractions=[0, 0, 1], **options)
    assert (task.name, sizes(task)) == ("messidor2", [0, 0, 15])
    assert task.notes["not gradable"] == "1 images without a grade left out"
    grades = {row["id"]: row["answer"] for row in task.splits["test"]}
    assert grades["20060411_004_PP.png"] == 4
    assert "20060411_003_PP.png" not in grades


def test_all_have_retinamnists_instruction_and_answers(
    aptos, idrid, messidor, messidor2, options, npz_arrays, save_npz, tmp_path
):
    save_npz(npz_arrays(classes=5, rgb=True), "retinamnist.npz")
    retina = load_medmnist_task("retina", tmp_path, **options)
    tasks = [
        load_aptos2019_task(aptos, **options),
        load_idrid_task(idrid, **options),
        load_messidor_task(messidor, **options),
        load_messidor_task(messidor2, **options),
    ]
    for task in tasks:
        assert task.answers == retina.answers
        assert task.definitions == retina.definitions
        assert Instruction().render(task) == Instruction().render(retina)
        assert task.ordinal == retina.ordinal is True
    template = Instruction(template="{definitions}")
    assert template.render(retina).startswith(
        "no retinopathy: no abnormalities; mild retinopathy: microaneurysms only;"
    )


def test_ham10000_has_dermamnists_labels_and_the_papers_split(ham, options, npz_arrays, save_npz, tmp_path):
    task = load_ham10000_task(ham, **options)
    save_npz(npz_arrays(classes=7, rgb=True), "dermamnist.npz")
    derma = load_medmnist_task("derma", tmp_path, **options)
    assert task.answers == derma.answers
    assert sizes(task) == [98, 14, 28]
    assert "leakage" in task.notes
    assert not task.ordinal


def test_ham10000_by_lesion(ham, options):
    task = load_ham10000_task(ham, by_lesion=True, **options)
    lesions = [{int(name.removeprefix("ISIC_")) // 2 for name in rows["id"][:]} for rows in task.splits.values()]
    assert sum(map(len, lesions)) == len(set.union(*lesions)) == 70
    assert "leakage" not in task.notes
    assert sizes(task) == [98, 14, 28]


@pytest.mark.parametrize(
    ("load", "message"),
    [
        (load_aptos2019_task, "has no file train.csv in it or below it"),
        (load_idrid_task, "has no file .*Disease Grading_Training Labels.csv"),
        (load_messidor_task, "has neither Annotation_Base.*nor a CSV with the column 'adjudicated_dr_grade'"),
        (load_ham10000_task, "has no file HAM10000_metadata.csv"),
    ],
)
def test_another_layout_is_named(load, message, tmp_path, options):
    (tmp_path / "empty").mkdir()
    with pytest.raises(VitaskError, match=message):
        load(tmp_path / "empty", **options)
    with pytest.raises(VitaskError, match=r"nowhere: no such folder; data\.root is the folder of"):
        load(tmp_path / "nowhere", **options)


def test_a_grade_that_is_none_and_an_image_that_is_missing(aptos, options):
    table = aptos / "train.csv"
    text = table.read_text()
    table.write_text(text.replace("000000000003,3", "000000000003,7"))
    with pytest.raises(VitaskError, match=r"train\.csv, line 5: label '7' is none of 0, 1, 2, 3, 4"):
        load_aptos2019_task(aptos, **options)
    table.write_text(text)
    (aptos / "train_images/000000000003.png").unlink()
    with pytest.raises(VitaskError, match=r"train\.csv, line 5: .*000000000003: no such image"):
        load_aptos2019_task(aptos, **options)
