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


def test_intervals_on_one_scale_by_hand():
    """From 0 to 1 over 150 pixels behind a margin of 5: ½ stands at 80."""
    drawn = [pages.Range(0, "<soup>", 0.5, 0.0, 1.0), pages.Range(9, "b", 0.2, 0.2, 0.2)]
    svg = pages.ranges(drawn, {"chance": 0.5})
    assert "<line class=mark x1=80.0 x2=80.0" in svg
    assert "<line x1=5.0 x2=155.0 y1=6.0" in svg
    assert "<circle cx=80.0 cy=6.0" in svg
    assert "<g class=s1><title>b 0.200 [0.200, 0.200]</title><line x1=35.0 x2=35.0 y1=14.0" in svg
    assert "&lt;soup&gt; 0.500 [0.000, 1.000]" in svg
    assert pages.ranges(drawn[1:], {"chance": 0.2}) == ""  # nothing to compare
    assert pages.ranges([], {"chance": 0.2}) == ""


def test_headings_folded_texts_links_and_galleries():
    made = pages.html_table(["<b>a</b>", "c"], ["part", ["<i>1</i>", "2"]], words=(1,))
    assert "<tr class=part><th colspan=2>part</th></tr>" in made
    assert "<td><i>1</i></td><td class=words>2</td>" in made
    assert "&lt;u&gt;" in pages.folded("about", "<u>")
    assert pages.folded("about", " ") == pages.gallery([]) == ""
    assert "<a href='#x'>&lt;X&gt;</a>" in pages.contents({"x": "<X>"})
