import pytest

from vitask.data import load_digits_task
from vitask.data.labels import Label, canonical_order, name_labels, read_label_file
from vitask.errors import UsageError, VitaskError

FULL = """\
modality: retinal fundus
ordinal: true
labels:
  0: no retinopathy
  no:
    text: mild retinopathy
    synonyms: [mild DR, mild NPDR]
    definition: microaneurysms only
"""


@pytest.fixture
def label_file(tmp_path):
    def write(text):
        (tmp_path / "labels.yaml").write_text(text)
        return tmp_path / "labels.yaml"

    return write


def test_a_file_gives_texts_synonyms_definitions_and_every_name_is_text(label_file):
    file = read_label_file(label_file(FULL))
    assert (file.modality, file.ordinal) == ("retinal fundus", True)
    assert list(file.labels) == ["0", "no"]
    assert file.labels["0"] == Label("0", "no retinopathy")
    assert file.labels["no"] == Label("no", "mild retinopathy", ("mild DR", "mild NPDR"), "microaneurysms only")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("labels: [a, b]", "expected 'labels:' with one 'name: text' a line"),
        ("a: b", "expected 'labels:'"),
        ("labels: {a: b", "not a YAML file"),
        ("labels: {a: b}\nordinl: true", "unknown key 'ordinl'. Did you mean 'ordinal'?"),
        ("labels: {a: b}\nordinal: yes", "ordinal: 'yes' is neither true nor false"),
        ("labels: {a: {synonym: [b]}}", "label 'a': unknown key 'synonym'. Did you mean 'synonyms'?"),
        ("labels: {a: {synonyms: {b: c}}}", "label 'a': text and definition are texts, synonyms a list of texts"),
        ("labels: {a: ''}", "label 'a': text and definition are texts"),
        ("labels: {a: [b]}", "label 'a': expected a text"),
    ],
)
def test_a_wrong_file_is_named_in_one_line(label_file, text, message):
    path = label_file(text)
    with pytest.raises(VitaskError) as error:
        read_label_file(path)
    assert str(error.value).startswith(str(path))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_no_such_file(tmp_path):
    with pytest.raises(UsageError, match=r"data\.label_file=.*nowhere\.yaml: no such file"):
        read_label_file(tmp_path / "nowhere.yaml")


def test_own_texts_go_before_the_file_and_the_file_before_what_is_shipped(label_file):
    file = read_label_file(label_file("labels: {a: {text: file a, synonyms: [s]}, b: file b}"))
    shipped = {name: Label(name, f"shipped {name}") for name in "abc"}
    labels = name_labels("abcd", own={"a": "own a"}, file=file, shipped=shipped)
    assert [label.text for label in labels] == ["own a", "file b", "shipped c", "d"]
    assert labels[0].synonyms == ("s",)
    raw = name_labels("abcd", file=file, shipped=shipped, raw=True)
    assert [label.text for label in raw] == ["file a", "file b", "c", "d"]


def test_names_that_are_not_in_the_data_are_refused(label_file):
    file = read_label_file(label_file("labels: {mold: text}"))
    with pytest.raises(UsageError, match=r"label_file: there is no label 'mold'\. Did you mean 'mould'"):
        name_labels(["mould", "rust"], file=file)
    with pytest.raises(UsageError, match=r"set has 2 labels .* label_texts has 1"):
        name_labels(["a", "b"], own=["x"], origin="set")


def test_order_is_the_files_then_numbers_by_value_then_names(label_file):
    assert canonical_order(["10", "9", "-1"]) == ["-1", "9", "10"]
    assert canonical_order(["b", "B", "a"]) == ["B", "a", "b"]
    file = read_label_file(label_file("labels: {b: x, a: y, c: z}"))
    assert canonical_order(["a", "b"], file) == ["b", "a"]
    assert canonical_order(["a", "b", "d"], file) == ["a", "b", "d"]


def test_a_source_without_rows_of_its_own_takes_a_label_file_too(label_file):
    task = load_digits_task(label_file=label_file("labels: {zero: {text: naught, synonyms: [nil]}}\nmodality: figure"))
    assert (task.labels[0], task.modality, task.answers[0].synonyms) == ("naught", "figure", ("nil",))
    assert task.fingerprint != load_digits_task().fingerprint
