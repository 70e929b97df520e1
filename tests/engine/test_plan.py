import math

import numpy as np
import pytest

from tureen.contracts import Aggregation, Calibration, Granularity, ScoreOptions
from tureen.engine.plan import make_plan
from tureen.errors import InvalidRequest, TureenError, UnknownHead
from tureen.model.manifest import HeadSpec

HEADS = (
    HeadSpec(
        name="preference",
        granularity=Granularity.RESPONSE,
        weight=0.6,
        calibration=Calibration(mean=1.0, std=2.0),
    ),
    HeadSpec(name="factuality", granularity=Granularity.SENTENCE, weight=0.4),
)


def test_without_options_the_model_decides():
    plan = make_plan(ScoreOptions(), HEADS)
    assert plan.heads == HEADS
    assert plan.weights.tolist() == [0.6, 0.4]
    assert (plan.mean.tolist(), plan.std.tolist()) == ([1.0, 0.0], [2.0, 1.0])
    assert plan.granularities == {Granularity.RESPONSE, Granularity.SENTENCE}
    assert not plan.spread


def test_a_subset_keeps_the_models_order_and_weights():
    plan = make_plan(ScoreOptions(heads=("factuality",)), HEADS)
    assert np.arange(2)[plan.columns].tolist() == [1]
    assert plan.granularities == {Granularity.SENTENCE}
    assert plan.weights.tolist() == [0.4]
    both = make_plan(ScoreOptions(heads=("factuality", "preference")), HEADS)
    assert [head.name for head in both.heads] == ["preference", "factuality"]


def test_weights_replace_the_models_as_a_whole():
    plan = make_plan(ScoreOptions(weights={"factuality": 2.0}), HEADS)
    assert plan.weights.tolist() == [0.0, 2.0]


@pytest.mark.parametrize("aggregation", [Aggregation.WORST_CASE, Aggregation.UNCERTAINTY_WEIGHTED])
def test_an_aggregation_over_members_implies_uncertainty(aggregation):
    assert make_plan(ScoreOptions(aggregation=aggregation), HEADS).uncertainty


@pytest.mark.parametrize(
    ("options", "error", "field"),
    [
        (ScoreOptions(heads=()), InvalidRequest, "heads"),
        (ScoreOptions(heads=("preference",) * 2), InvalidRequest, "heads[1]"),
        (ScoreOptions(heads=("preference", "factualty")), UnknownHead, "heads[1]"),
        (ScoreOptions(weights={}), InvalidRequest, "weights"),
        (ScoreOptions(weights={"factualty": 1.0}), UnknownHead, "weights.factualty"),
        (ScoreOptions(weights={"preference": math.nan}), InvalidRequest, "weights.preference"),
        (ScoreOptions(weights={"preference": -math.inf}), InvalidRequest, "weights.preference"),
        (
            ScoreOptions(heads=("preference",), weights={"factuality": 1.0}),
            InvalidRequest,
            "weights.factuality",
        ),
        (ScoreOptions(penalty=-0.1), InvalidRequest, "penalty"),
        (ScoreOptions(penalty=math.inf), InvalidRequest, "penalty"),
        (ScoreOptions(penalty=math.nan), InvalidRequest, "penalty"),
    ],
)
def test_what_is_refused(options, error, field):
    with pytest.raises(TureenError) as caught:
        make_plan(options, HEADS)
    assert type(caught.value) is error
    assert caught.value.field == field
    got = caught.value.got
    assert not isinstance(got, float) or math.isfinite(got)  # JSON knows no NaN


def test_an_unknown_head_gets_the_nearest_name():
    with pytest.raises(UnknownHead, match="did you mean 'factuality'"):
        make_plan(ScoreOptions(heads=("factualty",)), HEADS)


def test_a_penalty_of_zero_is_zero():
    assert make_plan(ScoreOptions(penalty=0.0), HEADS).penalty == 0.0
