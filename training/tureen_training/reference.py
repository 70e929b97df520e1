"""Samples whose rewards a soup stores, for the server to compare with its own at start-up.

Written for this purpose, so that a model directory holds no text of its training data. They cover what can
differ between two machines: no context, one window, several windows, several languages and scripts.
"""

from __future__ import annotations

from tureen.contracts import Sample

_LIGHTHOUSE = (
    "The lighthouse on Gull Point was built in 1871 and rebuilt after the fire of 1902. Its lamp burned oil "
    "until 1934, when a cable brought electricity from the mainland. The keeper's house beside it is a museum."
)
_FERRY = (
    "A ferry crosses to the point twice a day from April to October. The crossing takes forty minutes. "
    "In winter the point is reached only by the causeway, which the tide covers for six hours."
)

REFERENCE_SAMPLES = (
    Sample(
        prompt="When was the lighthouse on Gull Point built?",
        context=(_LIGHTHOUSE,),
        responses=(
            "It was built in 1871 and rebuilt after a fire in 1902.",
            "It was built in 1902. The museum sells postcards, tea and cakes.",
        ),
    ),
    Sample(
        prompt="How does one get to Gull Point in winter?",
        context=tuple(passage for _ in range(4) for passage in (_LIGHTHOUSE, _FERRY)),
        responses=("Over the causeway, when the tide is out.", "The ferry runs all year."),
    ),
    Sample(prompt="What is two and two?", responses=("Four.", "Five, I think; or perhaps six.")),
    Sample(
        prompt="灯台はいつ建てられましたか。",
        context=("岬の灯台は1871年に建てられ、1902年の火事のあとに再建された。",),
        responses=("1871年に建てられました。", "わかりません。"),
    ),
)
