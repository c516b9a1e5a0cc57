"""Bad data traced to versions, and a learner rebuilt from before it."""

from datetime import timedelta

import pytest
from django.utils import timezone

from fleet.models import Robot
from learning import blobs
from learning.exceptions import LeaseLost, Unprocessable
from learning.models import Episode, EpisodeUse, Exclusion, Learner, PolicyChange, PolicyVersion
from learning.selectors.episodes import trainable_after
from learning.selectors.lineage import deeds, taught
from learning.selectors.search import used_by
from learning.selectors.taint import Suspect, suspected, trace
from learning.services import learners, warm
from learning.services.labels import add_label
from learning.services.learners import claim_round
from learning.services.policies import assign_pending
from learning.services.rebuilds import rebuild
from tests.learning.brains import make_learner
from tests.learning.fleets import make_version
from tests.learning.making import record, send
from tests.learning.test_rounds import run


@pytest.fixture
def learner(db) -> Learner:
    return Learner.objects.create(name="hg", step=45)


@pytest.fixture
def episodes(robot, task) -> list[Episode]:
    """Four: the second has corrections by ann, the third was judged by the labeller."""
    return [
        send(record(robot, task, modes=(1, 1, 0, 0) if i == 1 else (0,) * 4), robot)
        for i in range(4)
    ]


@pytest.fixture
def history(learner, episodes) -> list[PolicyVersion]:
    """Versions at steps 10 to 40; episode i was first used at step 5 + 10 i."""
    versions = [make_version(learner, n, step=10 * n) for n in (1, 2, 3, 4)]
    for i, episode in enumerate(episodes):
        EpisodeUse.objects.create(episode=episode, learner=learner, step=5 + 10 * i)
    assign_pending()
    return versions


@pytest.mark.parametrize(
    ("which", "bad", "clean"),
    [
        (lambda e, cast: Suspect(episode=e[3].uid), [4], 3),
        (lambda e, cast: Suspect(operator="ann"), [2, 3, 4], 1),
        (lambda e, cast: Suspect(labeller="labeller"), [3, 4], 2),
        (lambda e, cast: Suspect(operator="ann", labeller="labeller"), [], 4),
        (lambda e, cast: Suspect(started_from=e[0].started_at), [1, 2, 3, 4], None),
        (lambda e, cast: Suspect(started_before=e[0].started_at), [], 4),
        (lambda e, cast: Suspect(operator="nobody"), [], 4),
    ],
    ids=["episode", "operator", "labeller", "both", "since", "until", "nobody"],
)
def test_a_suspect_is_traced_to_the_versions_that_learned_from_it(
    history, episodes, learner, cast, which, bad, clean
):
    add_label(episode_uid=episodes[2].uid, operator=cast.labeller, outcome="failure")
    found = trace(learner, suspected(which(episodes, cast)))
    assert [v.number for v in found.versions] == bad
    assert (found.clean and found.clean.number) == clean


def test_a_rebuild_goes_back_excludes_and_takes_the_lease_from_the_round_under_way(
    history, episodes, learner, robot, cast
):
    Learner.objects.update(state="running", checkpoint_sha256="c" * 64, checkpoint_step=45)
    claim = claim_round(learner.pk, "here")
    done = rebuild(learner, Suspect(operator="ann"), operator=cast.lead, reason="gripper slipped")
    assert (done.origin, done.excluded, done.robots) == (history[0], 1, (robot.name,))
    robot.refresh_from_db()
    learner.refresh_from_db()
    assert robot.assigned_number == 1
    assert (learner.checkpoint_sha256, learner.checkpoint_step, learner.branch) == ("", 10, 1)
    with pytest.raises(LeaseLost):
        learners.renew(claim, step=46)
    assert episodes[1] not in trainable_after(0)
    assert trainable_after(0).count() == 3
    change = PolicyChange.objects.order_by("pk").last()
    assert (change.kind, change.operator, change.reason) == (
        "rebuilt", cast.lead, "gripper slipped",
    )  # fmt: skip
    assert "1 episodes are excluded" in change.what
    # What is published next learned from what the old version did and from the new branch alone.
    following = make_version(learner, 5, step=30, branch=1, parent=history[0])
    EpisodeUse.objects.create(episode=episodes[3], learner=learner, step=20, branch=1)
    learned = {use.episode for use in used_by(following)}
    assert learned == {episodes[0], episodes[3]}
    assert (deeds(following).learned_from, deeds(following).new_to_it) == (2, 1)
    assert [t.versions for t in taught(episodes[0])] == [5]
    assert [t.newest for t in taught(episodes[1])] == [4]
    # Again: nothing is left to undo.
    again = rebuild(learner, Suspect(operator="ann"), operator=cast.lead)
    assert (again.origin, again.excluded, again.robots) == (following, 0, ())
    learner.refresh_from_db()
    assert learner.branch == 1


@pytest.mark.parametrize(
    ("suspect", "words"),
    [
        (Suspect(), "name an episode"),
        (Suspect(operator="nobody"), "no episode is meant"),
        (Suspect(started_from=timezone.now() - timedelta(days=9999)), "every version of hg"),
    ],
    ids=["nothing", "nobody", "everything"],
)
def test_a_rebuild_that_cannot_be_changes_nothing(history, learner, cast, suspect, words):
    with pytest.raises(Unprocessable, match=words):
        rebuild(learner, suspect, operator=cast.lead)
    assert not Exclusion.objects.exists()
    assert set(Robot.objects.values_list("assigned_number", flat=True)) == {4}


@pytest.mark.django_db(transaction=True)
def test_after_a_rebuild_training_goes_on_from_the_old_weights_without_the_bad_episode(
    robot, task, cast
):
    warm.forget_warm()
    learner = make_learner(publish_steps=3)
    demonstration = record(None, task, purpose="demonstration", policy_number=None, seed=1)
    send(demonstration, None)
    run(learner, steps=6)
    bad = send(record(robot, task, modes=(1,) * 6), robot)
    run(learner, steps=30)
    clean, *_ = PolicyVersion.objects.filter(step=6)
    assert EpisodeUse.objects.filter(episode=bad).exists()
    done = rebuild(learner, Suspect(episode=bad.uid), operator=cast.lead)
    assert done.origin == clean
    row = run(learner, steps=5)
    assert (row.first_step, row.steps) == (6, 5)
    newest = PolicyVersion.objects.order_by("-number").first()
    assert (newest.parent, newest.step, newest.branch) == (clean, 9, 1)
    assert bad not in {use.episode for use in used_by(newest)}
    # Three steps of a learning rate of a thousandth away from the old weights, not from the newer.
    from safetensors.torch import load

    was, now = (load(blobs.store().get(v.sha256)) for v in (clean, newest))
    last_bad = PolicyVersion.objects.filter(branch=0).order_by("-number").first()
    other = load(blobs.store().get(last_bad.sha256))
    moved = sum(float((now[k] - was[k]).abs().sum()) for k in was)
    apart = sum(float((now[k] - other[k]).abs().sum()) for k in was)
    assert 0 < moved < apart
    # The lead said manual: robots stay where they were put.
    robot.refresh_from_db()
    assert robot.assigned_number == clean.number
