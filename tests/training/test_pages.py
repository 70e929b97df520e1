"""Pages hold text as text, whoever wrote it."""

from pathlib import Path

from tureen_training import pages, plots
from tureen_training.pages import coloured


def test_pieces_have_the_colour_of_what_their_segments_are_worth_and_text_stays_text():
    text = "A <b>. C."
    html = coloured(
        text, [["factuality", 0, 6, -0.5], ["factuality", 6, 9, 0.25], ["preference", 0, 9, 9.0]]
    )
    assert html == (
        '<span title="factuality -0.50" style="background:hsla(0,70%,50%,0.25)">A &lt;b&gt;.</span>'
        '<span title="factuality +0.25" style="background:hsla(120,70%,50%,0.12)"> C.</span>'
    )


def test_tables_lists_and_titles_hold_text():
    page = pages.page("<t>", [pages.table(["<h>"], [["<c>"]]), pages.bullets(["<i>"])])
    for name in "thci":
        assert f"&lt;{name}&gt;" in page
        assert f"<{name}>" not in page
    assert pages.bullets([]) == ""


def test_a_picture_is_inside_the_page(tmp_path: Path):
    figure, axes = plots.figure("x", "y")
    axes.plot([0, 1], [0, 1])
    html = pages.picture(plots.save(figure, tmp_path / "p.png"))
    assert 'src="data:image/png;base64,iVBOR' in html
