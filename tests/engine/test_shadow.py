"""What is left of a shadow that ended."""

import gc
import weakref

from held_engine import run

from tureen.engine.scorer import Scorer
from tureen.engine.stub_backend import stub_model


def test_the_report_of_a_shadow_keeps_no_soup_in_memory():
    async def test():
        scorer = Scorer([stub_model()])
        await scorer.start()
        serving = await scorer.prepare(stub_model())
        shadow, kept = scorer.shadow(serving), weakref.ref(serving)
        scorer.unshadow(shadow)
        await scorer.retire(serving)
        del serving
        gc.collect()
        assert kept() is None
        assert shadow.report().responses == 0
        await scorer.stop(0.01)

    run(test)
