import json

from tureen.contracts import ErrorInfo, Redistribution, SampleResult, Score, Segment
from tureen.transports.json_body import dumps


def test_a_mark_is_left_out_where_there_is_none_and_text_is_not_touched():
    """Whatever text says, only fields are left out."""
    phrase = '","redistribution":null,"x":"'
    marked = Segment(
        head=phrase, start=0, end=1, value=1.0, reward=1.0, redistribution=Redistribution.ABLATION
    )
    plain = Segment(head=phrase, start=0, end=1, value=1.0, reward=1.0)
    result = SampleResult(
        id=phrase,
        error=ErrorInfo(code="c", message=phrase),
        scores=(Score(reward=1.0, heads={}, segments=(marked, plain), tokens=1),),
    )
    read = json.loads(dumps(result))
    assert read["id"] == read["error"]["message"] == phrase
    one, other = read["scores"][0]["segments"]
    assert list(other) == ["head", "start", "end", "value", "reward"]
    assert one == {**other, "redistribution": "ablation"}
    assert other["head"] == phrase
