import matplotlib as mpl
import pytest

from tureen_training import plots

PNG = b"\x89PNG\r\n\x1a\n"


def test_a_plot_is_a_png_and_its_folder_is_made(tmp_path):
    made, axes = plots.figure("x", "y", "a line")
    axes.plot([0, 1], [1, 2], label="soup")
    path = plots.save(made, tmp_path / "new" / "line.png")
    assert path.read_bytes().startswith(PNG)
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["soup"]
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_title()) == ("x", "y", "a line")


def test_what_has_no_label_has_no_legend(tmp_path):
    made, (left, right) = plots.panels(2)
    left.plot([0, 1], [1, 2])
    plots.save(made, tmp_path / "two.png")
    assert left.get_legend() is None
    assert right.get_legend() is None


def test_the_settings_of_matplotlib_stay_as_they_were(tmp_path):
    before = dict(mpl.rcParams)
    made, _ = plots.figure("x", "y")
    plots.save(made, tmp_path / "empty.png")
    assert dict(mpl.rcParams) == before


def test_another_format_is_refused(tmp_path):
    made, _ = plots.figure("x", "y")
    with pytest.raises(ValueError, match=r"plots are PNG: give a name that ends in \.png"):
        plots.save(made, tmp_path / "plot.svg")
