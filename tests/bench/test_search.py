import pytest

from learning.selectors.episodes import misjudged
from learning.selectors.search import Search, find
from tests.bench.many_episodes import make_episodes
from tests.bench.requests import timed
from tests.bench.search import KINDS, paths


@pytest.mark.django_db
def test_every_kind_of_search_is_answered_over_rows_that_agree_with_each_other():
    make_episodes(500)
    assert find(Search()).count == 500
    assert not misjudged().exists()
    assert find(Search(operator="operator-03")).count > 0
    found = timed(paths(), 1)
    assert set(found) == set(KINDS)
    assert all(len(took) == 1 and took[0] > 0 for took in found.values())
