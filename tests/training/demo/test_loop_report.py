"""What the page of the loop makes of text that policies wrote."""

from tureen_training.demo.loop_report import coloured


def test_pieces_have_the_colour_of_what_their_segments_are_worth_and_text_stays_text():
    text = "A <b>. C."
    html = coloured(
        text, [["factuality", 0, 6, -0.5], ["factuality", 6, 9, 0.25], ["preference", 0, 9, 9.0]]
    )
    assert html == (
        '<span title="factuality -0.50" style="background:hsla(0,70%,50%,0.25)">A &lt;b&gt;.</span>'
        '<span title="factuality +0.25" style="background:hsla(120,70%,50%,0.12)"> C.</span>'
    )
