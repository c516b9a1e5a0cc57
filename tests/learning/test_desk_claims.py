import uuid
from datetime import timedelta

import pytest
from django.utils import timezone

from learning.models import DeskClaim, Label
from learning.services.desk import CLAIM_S, Seat, leave, sit
from learning.services.labels import add_label
from tests.factories import make_operator
from tests.learning.test_labelling import post
from tests.learning.test_pages import make_episode, signed_in
from tests.race import at_once

HERE, THERE = uuid.UUID(int=1), uuid.UUID(int=2)
# Ahead of the clock, however long the tests before these take.
NOW = timezone.now() + timedelta(hours=1)
LATER = NOW + timedelta(seconds=CLAIM_S + 1)


def uids(seat: Seat) -> list[uuid.UUID]:
    return [one.uid for one in seat.episodes]


@pytest.fixture
def episodes(robot, task):
    return [make_episode(i, robot, task) for i in range(1, 5)]


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("waiting", "want"), [(8, 1), (20, 6)])
def test_eight_labellers_at_once_get_eight_different_episodes(robot, task, waiting, want):
    for i in range(1, waiting + 1):
        make_episode(i, robot, task)
    rivals = [make_operator() for _ in range(8)]

    def arrive(operator):
        return lambda: sit(operator=operator, page=uuid.uuid4(), want=want)

    handed = [uids(seat) for seat in at_once([arrive(operator) for operator in rivals])]
    every = [uid for got in handed for uid in got]
    assert len(every) == len(set(every)) == DeskClaim.objects.count()
    assert len(every) == waiting
    if want == 1:
        assert [len(got) for got in handed] == [1] * 8


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_of_two_who_want_an_expired_claim_at_once_one_gets_it(robot, task):
    make_episode(1, robot, task)
    sit(operator=make_operator(), page=HERE, want=1, now=NOW)
    rivals = [make_operator() for _ in range(4)]
    came = at_once(
        [
            lambda operator=operator: sit(operator=operator, page=uuid.uuid4(), want=1, now=LATER)
            for operator in rivals
        ]
    )
    assert sorted(len(seat.episodes) for seat in came) == [0, 0, 0, 1]


def test_a_claim_lasts_while_it_is_renewed_and_no_longer(cast, episodes):
    mine = uids(sit(operator=cast.labeller, page=HERE, want=2, now=NOW))
    other = sit(operator=cast.operator, page=THERE, want=4, now=NOW)
    assert (len(mine), other.labellers, other.left) == (2, 2, 4)
    # What is left is shared: one of the two.
    assert len(other.episodes) == 1
    assert not set(mine) & set(uids(other))
    soon = NOW + timedelta(seconds=CLAIM_S - 1)
    assert sit(operator=cast.labeller, page=HERE, hold=mine[:1], now=soon).taken == []
    # The other one of mine was given up, and the other page has expired.
    again = sit(operator=cast.lead, page=uuid.UUID(int=3), want=4, now=LATER)
    assert len(again.episodes) == 2
    assert mine[0] not in uids(again)
    assert mine[1] in uids(again) or uids(other)[0] in uids(again)


def test_what_expired_comes_back_to_who_still_shows_it_unless_somebody_else_does(cast, episodes):
    mine = uids(sit(operator=cast.labeller, page=HERE, want=2, now=NOW))
    other = uids(sit(operator=cast.operator, page=THERE, want=4, now=LATER))
    assert set(mine) < set(other)
    seen = sit(operator=cast.labeller, page=HERE, hold=mine, now=LATER)
    assert seen.taken == mine
    leave(operator=cast.operator, page=THERE)
    leave(operator=cast.labeller, page=HERE)
    assert sit(operator=cast.labeller, page=HERE, hold=mine, now=LATER).taken == []
    assert DeskClaim.objects.count() == 2


def test_a_label_is_kept_though_its_claim_expired_and_counts_as_a_second_one(
    cast, episodes, settings
):
    settings.SOP_DOUBLE_LABEL_PERCENT = 0
    (mine,) = uids(sit(operator=cast.labeller, page=HERE, want=1, now=NOW))
    taken = uids(sit(operator=cast.operator, page=THERE, want=4, now=LATER))
    assert mine in taken
    add_label(episode_uid=mine, operator=cast.labeller, outcome="success", source="desk")
    assert DeskClaim.objects.get(episode__uid=mine).operator == cast.operator
    # The other page hears that it is judged; what its labeller says all the same is kept, too.
    assert sit(operator=cast.operator, page=THERE, hold=taken, now=LATER).judged == [mine]
    add_label(episode_uid=mine, operator=cast.operator, outcome="failure", source="desk")
    assert Label.objects.filter(episode__uid=mine).count() == 2
    assert not DeskClaim.objects.filter(episode__uid=mine).exists()


def test_a_label_ends_its_claim_and_a_second_opinion_is_claimed_like_a_first(
    cast, episodes, settings
):
    settings.SOP_DOUBLE_LABEL_PERCENT = 100
    (mine,) = uids(sit(operator=cast.labeller, page=HERE, want=1))
    add_label(episode_uid=mine, operator=cast.labeller, outcome="success", source="desk")
    handed = [
        mine in uids(sit(operator=who, page=uuid.uuid4(), want=8))
        for who in (cast.operator, cast.lead)
    ]
    assert handed == [True, False]


def test_two_tabs_of_one_labeller_show_different_episodes_until_one_is_closed(cast, episodes):
    first, second = (sit(operator=cast.labeller, page=p, want=2) for p in (HERE, THERE))
    assert not set(uids(first)) & set(uids(second))
    assert second.labellers == 1
    # Nobody gives up another's.
    leave(operator=cast.operator, page=HERE)
    assert DeskClaim.objects.count() == 4
    answer = signed_in(cast.labeller).post("/label/leave/", {"page": str(HERE)})
    assert (answer.status_code, DeskClaim.objects.count()) == (200, 2)


def test_a_page_says_what_it_holds_and_hears_what_it_lost(cast, episodes):
    asked = {"page": str(HERE), "n": 3, "by": "labeller"}
    status, said = post(cast.labeller, "/label/seat/", asked)
    assert status == 200
    assert (said["left"], said["labellers"], len(said["episodes"])) == (4, 1, 3)
    held = [one["uid"] for one in said["episodes"]]
    add_label(episode_uid=held[1], operator=cast.lead, outcome="success")
    _, said = post(cast.labeller, "/label/seat/", asked | {"hold": held, "n": 0})
    assert (said["judged"], said["taken"], said["episodes"]) == ([held[1]], [], [])
    # Held episodes that are none are not held.
    assert post(cast.labeller, "/label/seat/", asked | {"hold": [str(uuid.uuid4())]})[0] == 200
    assert post(cast.operator, "/label/seat/", asked)[0] == 403


@pytest.mark.parametrize(
    ("body", "status"),
    [("", 422), ("null", 422), ("{}", 422), ({"page": "x"}, 422),
     *(({"page": str(HERE), **more}, 422) for more in (
         {"n": 21}, {"n": -1}, {"n": "x"}, {"hold": "x"}, {"hold": ["x"]},
         {"without": [str(HERE)] * 101}, {"by": "x" * 151})),
     ({"page": str(HERE), "x": "x" * 17_000}, 413)],
)  # fmt: skip
def test_a_page_that_asks_for_rubbish_is_told_and_claims_nothing(cast, episodes, body, status):
    got, said = post(cast.labeller, "/label/seat/", body)
    assert (got, DeskClaim.objects.count()) == (status, 0)
    assert said["reason"]
    for page in ("", "x", f"{HERE},{THERE}"):
        assert signed_in(cast.labeller).post("/label/leave/", {"page": page}).status_code == 422
