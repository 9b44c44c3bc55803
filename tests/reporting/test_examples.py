"""Which images a report shows: by what the exemplar changed, evenly spaced, with the likeliest labels."""

from __future__ import annotations

from vitask.reporting.examples import choose_examples, counts, spaced

from .studies import predictions


def test_images_are_sorted_by_what_the_exemplar_changed():
    found = choose_examples({"off": predictions("abab"), "on": predictions("aaaa")}, 5)
    assert {kind: [each.id for each in several] for kind, several in found.items()} == {
        "fixed": ["1.png"],
        "broken": ["3.png"],
        "wrong": ["2.png"],
    }
    assert counts({"off": predictions("abab"), "on": predictions("aaaa")}) == {"fixed": 1, "broken": 1, "wrong": 1}


def test_an_example_has_truth_and_the_answer_of_each_mode_with_its_likeliest_labels():
    found = choose_examples({"off": predictions("bbbb"), "on": predictions("aaaa"), "tsm": predictions("abbb")}, 1)
    (example,) = found["fixed"]
    assert example.truth == "a"
    assert [(a.who, a.text, a.right) for a in example.answers] == [
        ("w/o EP", "b", False),
        ("w/ EP", "a", True),
        ("TSM", "b" if example.id == "1.png" else "a", example.id != "1.png"),
    ]
    assert list(example.answers[0].top) == [("b", 0.6), ("a", 0.25), ("c", 0.1)]


def test_an_image_that_one_mode_lacks_is_left_out():
    found = choose_examples({"off": predictions("bbbb"), "on": predictions("aaaa")[1:]}, 5)
    assert [each.id for each in found["fixed"]] == ["1.png"]
    assert counts({"off": predictions("bbbb"), "on": predictions("aaaa")[1:]}) == {"fixed": 1, "broken": 2, "wrong": 0}


def test_no_example_is_chosen_when_none_is_wanted_or_nothing_is_wrong():
    same = predictions("aabb")
    assert choose_examples({"off": same, "on": same}, 3) == {}
    assert choose_examples({"off": predictions("bbbb"), "on": same}, 0) == {}


def test_examples_are_evenly_spaced():
    assert spaced([str(place) for place in range(100)], 4) == ["12", "37", "62", "87"]
    assert spaced(["a", "b"], 4) == ["a", "b"]
