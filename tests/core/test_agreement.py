import pytest

from learning.core.agreement import cohens_kappa


def pairs(table: list[list[int]]) -> list[tuple[str, str]]:
    return [
        (f"c{i}", f"c{j}")
        for i, row in enumerate(table)
        for j, count in enumerate(row)
        for _ in range(count)
    ]


def test_kappa_of_two_categories_is_the_textbooks():
    found = cohens_kappa(pairs([[20, 5], [10, 15]]))
    assert (found.n, found.observed, found.kappa) == (50, pytest.approx(0.7), pytest.approx(0.4))


def test_the_interval_is_that_of_fleiss_cohen_and_everitt():
    # Their example: kappa 0.429 with a variance of 0.002885.
    found = cohens_kappa(pairs([[106, 10, 4], [22, 28, 10], [2, 12, 6]]))
    assert found.kappa == pytest.approx(0.429, abs=5e-4)
    assert (found.high - found.kappa) / 1.959964 == pytest.approx(0.002885**0.5, abs=5e-5)
    assert found.kappa - found.low == pytest.approx(found.high - found.kappa)


def test_kappa_is_one_where_all_agree_and_below_zero_where_none_does():
    assert cohens_kappa(pairs([[5, 0], [0, 5]])).kappa == 1.0
    opposed = cohens_kappa(pairs([[0, 5], [5, 0]]))
    assert opposed.kappa == -1.0
    assert opposed.low >= -1.0


def test_kappa_is_not_defined_where_chance_alone_explains_everything():
    assert cohens_kappa([]).kappa is None
    same = cohens_kappa([("success", "success")] * 9)
    assert (same.n, same.observed, same.kappa) == (9, 1.0, None)
