"""What is done for a drop-in request before the engine sees it."""

import pytest

from tureen.engine.limits import EngineLimits
from tureen.engine.scorer import Scorer
from tureen.engine.stub_backend import stub_model
from tureen.errors import InvalidRequest
from tureen.transports.compat import ask


def test_too_many_texts_are_refused_before_one_is_looked_through(monkeypatch: pytest.MonkeyPatch):
    looked_through: list[str] = []
    monkeypatch.setattr(
        ask, "transcript", lambda text, *_: looked_through.append(text) or (text, "whole")
    )
    call = ask.Call.__new__(ask.Call)
    call.scorer = Scorer([stub_model()], limits=EngineLimits(max_client_batch_size=2))
    assert call.transcripts(["a", "b"], "all") == (["a", "b"], ["whole", "whole"])
    with pytest.raises(InvalidRequest, match="has 3 samples; this server takes 2"):
        call.transcripts(["c", "d", "e"], "all")
    assert looked_through == ["a", "b"]
