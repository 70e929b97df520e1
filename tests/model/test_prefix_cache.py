"""One bound for the prefixes of several trunks."""

import torch

from tureen.model.prefix_cache import PrefixCache

FIRST, SECOND = object(), object()
EIGHT = torch.arange(8, dtype=torch.float32)  # 32 bytes


def test_the_bound_is_of_all_owners_and_the_least_recently_used_goes_first():
    cache = PrefixCache(3 * 32)
    for owner, key in ((FIRST, b"a"), (FIRST, b"b"), (SECOND, b"a")):
        assert cache.put(owner, key, EIGHT)
    assert list(cache.get(FIRST, [b"a"])) == [b"a"]  # now b of the first is the oldest
    assert cache.put(SECOND, b"c", EIGHT)
    assert cache.bytes == 3 * 32
    assert list(cache.get(FIRST, [b"a", b"b"])) == [b"a"]
    assert list(cache.get(SECOND, [b"a", b"c"])) == [b"a", b"c"]


def test_one_owner_never_gets_what_another_computed():
    cache = PrefixCache(100)
    cache.put(FIRST, b"a", EIGHT)
    assert cache.get(SECOND, [b"a"]) == {}


def test_what_is_too_large_or_there_already_is_not_kept():
    cache = PrefixCache(40)
    assert not cache.put(FIRST, b"a", torch.zeros(11))
    assert cache.put(FIRST, b"a", EIGHT)
    assert not cache.put(FIRST, b"a", EIGHT)
    assert cache.bytes == 32


def test_an_owner_that_is_gone_leaves_its_room():
    cache = PrefixCache(100)
    cache.put(FIRST, b"a", EIGHT)
    cache.put(SECOND, b"a", EIGHT)
    cache.drop(FIRST)
    assert cache.bytes == 32
    assert list(cache.get(SECOND, [b"a"])) == [b"a"]
