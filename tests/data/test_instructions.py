import pytest

from vitask.data import Instruction
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
