"""What a version is made of when its learner was rebuilt: stretches of several branches."""

from collections.abc import Callable

from django.db.models import Q

from learning.models import Branch, EpisodeUse, Learner, PolicyVersion


def stretches_of(learner: Learner | int) -> Callable[[int, int], list[tuple[int, int]]]:
    """Return a function from (branch, step) to all gradient steps that led there.

    Each entry is a branch and the last of its steps that counts. One query, whatever is asked.
    """
    rows = Branch.objects.filter(learner=learner).select_related("origin")
    origins = {row.number: row.origin for row in rows}

    def stretches(branch: int, step: int) -> list[tuple[int, int]]:
        found = [(branch, step)]
        while branch in origins:
            origin = origins[branch]
            branch = origin.branch
            found.append((branch, origin.step))
        return found

    return stretches


def uses_behind(version: PolicyVersion) -> Q:
    """Return the condition on `EpisodeUse` for what a version learned from."""
    if version.branch == 0:
        return Q(branch=0, step__lte=version.step)
    condition = Q()
    for branch, step in stretches_of(version.learner_id)(version.branch, version.step):
        condition |= Q(branch=branch, step__lte=step)
    return condition


def versions_after(use: EpisodeUse) -> Q:
    """Return the condition on `PolicyVersion` for what learned from an episode by this use."""
    stretches = stretches_of(use.learner_id)
    condition = Q(branch=use.branch, step__gte=use.step)
    for row in Branch.objects.filter(learner=use.learner_id).select_related("origin"):
        behind = stretches(row.origin.branch, row.origin.step)
        if any(branch == use.branch and use.step <= step for branch, step in behind):
            condition |= Q(branch=row.number)
    return condition


def parent_for(learner: Learner) -> PolicyVersion | None:
    """Return the version that a learner goes on from: its branch's newest, or its origin."""
    published = PolicyVersion.objects.filter(
        learner=learner, state=PolicyVersion.State.PUBLISHED, branch=learner.branch
    )
    return published.order_by("-number").first() or origin_of(learner)


def origin_of(learner: Learner) -> PolicyVersion | None:
    """Return the version that the learner's branch was begun from; None in branch 0."""
    rows = Branch.objects.filter(learner=learner, number=learner.branch)
    row = rows.select_related("origin").first()
    return row.origin if row is not None else None
