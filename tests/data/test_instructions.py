import pytest

from vitask.data import Hint, Instruction
from vitask.errors import UsageError


def test_the_papers_template(toy):
    task = toy([0, 1, 2])
    assert Instruction().render(task) == "Analyze the given dot image. The possible diagnoses are:red, green, blue."
    assert Instruction(complete=False).render(task) == "Analyze the given dot image."


def test_own_template_with_plain_braces(toy):
    assert Instruction(template="{{json}} {labels}").render(toy([0, 1, 2])) == "{json} red, green, blue"


@pytest.mark.parametrize("field", ["label", "modality.name", "0", ""])
def test_unknown_placeholder_names_it_and_the_valid_ones(field):
    with pytest.raises(UsageError) as error:
        Instruction(template=f"Look: {{{field}}}")
    assert f"unknown placeholder {{{field}}}; valid are {{modality}}, {{labels}}, {{definitions}}." in str(error.value)


def test_nearest_placeholder_is_suggested_in_the_incomplete_template_too():
    with pytest.raises(UsageError, match="Did you mean 'modality'"):
        Instruction(incomplete_template="{modalty}")


def test_unbalanced_braces():
    with pytest.raises(UsageError, match=r"instruction template 'a \{ b'"):
        Instruction(template="a { b")


def test_a_hint_stands_behind_the_instruction_and_its_labels_are_no_template():
    assert Hint().added("What is it?", ["red"]) == "What is it? A classifier's answer is: red."
    several = Hint(" Maybe {prediction} {{so}}", " + ", "none")
    assert several.added("{a}?", ["red", "{blue}"]) == "{a}? Maybe red + {blue} {so}"
    assert several.added("?", []) == "? Maybe none {so}"


@pytest.mark.parametrize(
    ("template", "text"),
    [("Nothing.", "holds no {prediction}"), ("{labels}", "valid are {prediction}"), ("{prediction", "expected '}'")],
)
def test_a_hint_that_says_nothing_is_refused(template, text):
    with pytest.raises(UsageError) as caught:
        Hint(template)
    assert text in str(caught.value)
