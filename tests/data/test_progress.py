import sys

from vitask.data.sources.progress import with_progress


def test_few_items_or_no_terminal_pass_through():
    items = range(10)
    assert with_progress(items, 10, "x") is items
    assert with_progress(items, 5000, "x") is items


def test_many_items_draw_a_bar_on_stderr_only(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert list(with_progress(iter(range(10)), 5000, "checking images")) == list(range(10))
    out, err = capsys.readouterr()
    assert out == ""
    assert "checking images" in err
