"""The labelling desk: the queue, one label a key, taking back, many at once, and the conflicts."""

from typing import Annotated, Any
from uuid import UUID

import msgspec
from django.contrib import messages
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_GET, require_POST
from msgspec import Meta

from fleet.models import Operator, Role
from fleet.phrases import said
from fleet.views.pages import operator_page
from learning import tasks
from learning.exceptions import Forbidden, LearningError, Unprocessable
from learning.models import Label
from learning.models.labels import FailureReason, Judgement, Source
from learning.selectors import labelling
from learning.selectors.labelling import has_judged
from learning.selectors.replay import closed_episode, replay_of
from learning.services import desk as desks
from learning.services.labels import MAX_BULK, add_label, label_many, withdraw_label
from learning.views.bodies import body_of
from learning.views.replay import said_as_json

# Of a page that names two hundred episodes.
MAX_SEAT_BYTES = 16_384
MAX_QUEUE = 20
# Episodes a page may name as its own.
MAX_HELD = 100
# Episodes to choose from at once.
MANY_SHOWN = 60
# Conflicts shown at once.
CONFLICTS_SHOWN = 50
# In the order of their keys.
KEYS = (
    ("s", Judgement.SUCCESS, "Success", ""),
    ("f", Judgement.FAILURE, "Failure", ""),
    ("p", Judgement.PARTIAL, "Partial", "some of it done; counts half a failure"),
    ("a", Judgement.ABORT, "Abort", "not the policy’s fault; never trained on"),
)


class Given(msgspec.Struct, frozen=True, kw_only=True):
    """A label as the desk sends it; `uid` names it, so that sending it again changes nothing."""

    uid: UUID
    outcome: Annotated[str, Meta(max_length=16)]
    failure_step: Annotated[int, Meta(ge=0, lt=2**31)] | None = None
    reason: Annotated[str, Meta(max_length=16)] = ""
    note: Annotated[str, Meta(max_length=500, pattern=r"^[^\x00]*$")] = ""
    # Given while looking at others' labels, to settle a conflict.
    review: bool = False
    # Whose page sent it; empty: whoever is signed in.
    by: Annotated[str, Meta(max_length=150)] = ""


class Sits(msgspec.Struct, frozen=True, kw_only=True):
    """A page of the desk: what it holds, what it does not want, and how many more it wants."""

    page: UUID
    hold: Annotated[list[UUID], Meta(max_length=MAX_HELD)] = []
    without: Annotated[list[UUID], Meta(max_length=MAX_HELD)] = []
    n: Annotated[int, Meta(ge=0, le=MAX_QUEUE)] = 0
    by: Annotated[str, Meta(max_length=150)] = ""


class TakenBack(msgspec.Struct, frozen=True, kw_only=True):
    """The withdrawal of a label; `uid` names the withdrawal."""

    uid: UUID
    label: UUID
    by: Annotated[str, Meta(max_length=150)] = ""


def _uids(text: str, limit: int) -> list[UUID]:
    words = [word for word in text.split(",") if word]
    if len(words) > limit:
        raise Unprocessable(f"at most {limit} episodes, not {len(words)}")
    try:
        return [UUID(word) for word in words]
    except ValueError:
        raise Unprocessable("episodes are named by their uid") from None


@require_GET
@operator_page(Role.LABELLER)
def desk(request: HttpRequest, operator: Operator, uid: UUID | None = None) -> HttpResponse:
    """The desk; with `uid`, beginning with that episode."""
    context = {
        "section": "label",
        "operator": operator,
        "first": uid,
        "keys": KEYS,
        "reasons": [(str(n), *reason) for n, reason in enumerate(FailureReason.choices, 1)],
        "conflicts": len(labelling.conflicts()),
    }
    return render(request, "learning/label.html", context)


@require_POST
@operator_page(Role.LABELLER)
@said_as_json
def seat(request: HttpRequest, operator: Operator) -> HttpResponse:
    """Keep what a page holds with that page, and say what it judges next: JSON in, JSON out."""
    sits = body_of(request, Sits, what="a page of the desk", limit=MAX_SEAT_BYTES)
    _same(sits.by, operator, "page")
    found = desks.sit(
        operator=operator, page=sits.page, hold=sits.hold, without=sits.without, want=sits.n
    )
    return JsonResponse(
        {
            "left": found.left,
            "labellers": found.labellers,
            "judged": found.judged,
            "taken": found.taken,
            "episodes": [
                {"uid": one.uid, "task": one.task, "score": round(one.score, 3)}
                for one in found.episodes
            ],
        }
    )


@require_POST
@operator_page(Role.LABELLER)
@said_as_json
def leave(request: HttpRequest, operator: Operator) -> HttpResponse:
    """Give up what a page holds: form field `page`, as a page that goes away can send it."""
    (page,) = _uids(request.POST.get("page", ""), 1) or [None]
    if page is None:
        raise Unprocessable("which page?")
    desks.leave(operator=operator, page=page)
    return JsonResponse({})


@require_GET
@operator_page(Role.LABELLER)
@said_as_json
def replay(request: HttpRequest, operator: Operator, uid: UUID) -> HttpResponse:
    """An episode as a labeller may see it: without any judgement until they gave theirs."""
    episode = closed_episode(uid)
    answer = JsonResponse(replay_of(episode, blind=not has_judged(operator, episode)))
    answer["Cache-Control"] = "no-store"
    return answer


@require_POST
@operator_page(Role.LABELLER)
@said_as_json
def give(request: HttpRequest, operator: Operator, uid: UUID) -> HttpResponse:
    """Store a label: JSON in, JSON out."""
    given = body_of(request, Given)
    _same(given.by, operator)
    label = add_label(
        episode_uid=uid,
        operator=operator,
        outcome=given.outcome,
        failure_step=given.failure_step,
        reason=given.reason,
        note=given.note,
        uid=given.uid,
        source=Source.REVIEW if given.review else Source.DESK,
    )
    return _stored(label)


@require_POST
@operator_page(Role.LABELLER)
@said_as_json
def take_back(request: HttpRequest, operator: Operator) -> HttpResponse:
    """Take back a label of one's own: JSON in, JSON out."""
    taken = body_of(request, TakenBack)
    _same(taken.by, operator)
    return _stored(withdraw_label(label_uid=taken.label, operator=operator, uid=taken.uid))


def _same(by: str, operator: Operator, what: str = "judgement") -> None:
    # Somebody else signed in beside an open page: its labels wait for who gave them.
    if by and by != operator.name:
        raise Forbidden(f"this is {by}'s {what} and {operator.name} is signed in")


def _stored(label: Label) -> HttpResponse:
    tasks.enqueue_derivation([label.episode_id])
    return JsonResponse({"stored": str(label.uid)})


@require_POST
@operator_page(Role.LABELLER)
def bulk(request: HttpRequest, operator: Operator) -> HttpResponse:
    """Label the chosen episodes alike: form fields `uid` (many), `outcome` and `next`."""
    try:
        uids = _uids(",".join(request.POST.getlist("uid")[: MAX_BULK + 1]), MAX_BULK)
        outcome = request.POST.get("outcome", "")
        labels = label_many(episode_uids=uids, operator=operator, outcome=outcome)
    except LearningError as error:
        messages.error(request, _("Nothing was labelled: %(why)s.") % {"why": said(str(error))})
    else:
        tasks.enqueue_derivation([label.episode_id for label in labels])
        words = ngettext(
            "%(n)s episode labelled %(outcome)s.",
            "%(n)s episodes labelled %(outcome)s.",
            len(labels),
        )
        messages.success(request, words % {"n": len(labels), "outcome": said(outcome)})
    return redirect(_own_address(request.POST.get("next", "")))


@require_GET
@operator_page(Role.LABELLER)
def many(request: HttpRequest, operator: Operator) -> HttpResponse:
    """Last pictures of what waits, to judge alike; of one task if `task` says so."""
    task = request.GET.get("task", "").replace("\x00", "")
    context = {
        "section": "label",
        "operator": operator,
        "task": task,
        "tasks": labelling.waiting_tasks(operator),
        "episodes": labelling.last_pictures(operator, task=task, limit=MANY_SHOWN),
        "keys": KEYS,
    }
    return render(request, "learning/many.html", context)


def _own_address(wanted: str) -> str:
    # A path of this site and nothing else: not "//elsewhere", not "https:".
    own = wanted.startswith("/") and not wanted.startswith(("//", "/\\"))
    return wanted if own else reverse("learning:label")


@require_GET
@operator_page(Role.LABELLER)
def review(request: HttpRequest, operator: Operator) -> HttpResponse:
    """How well labellers agree, and the episodes on which they do not."""
    from learning.core.agreement import cohens_kappa

    found = labelling.conflicts()
    context: dict[str, Any] = {
        "section": "label",
        "operator": operator,
        "agreement": cohens_kappa(labelling.agreement_pairs()),
        "conflicts": found[:CONFLICTS_SHOWN],
        "more": max(0, len(found) - CONFLICTS_SHOWN),
        "outcomes": Judgement.choices,
        "keys": KEYS,
    }
    return render(request, "learning/review.html", context)
