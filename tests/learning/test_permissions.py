"""Who may ask for what: every address of the product, by method and least role.

An address that is not in the table fails, so that nobody adds one without deciding.
"""

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver

from fleet.models import Role
from learning.api import api
from learning.models import Episode
from tests.factories import Cast, make_task
from tests.learning.brains import make_learner
from tests.learning.making import record, send

PUBLIC, ROBOT = "public", "robot"
VIEWER, LABELLER, OPERATOR, LEAD = Role.VIEWER, Role.LABELLER, Role.OPERATOR, Role.LEAD
# Django's own, for staff; tests/fleet/test_admin.py.
ELSEWHERE = ("admin/",)

# Route: who may, by method.
PAGES: dict[str, dict[str, str]] = {
    "healthz": {"GET": PUBLIC},
    "readyz": {"GET": PUBLIC},
    "language/": {"POST": PUBLIC},
    "words/<slug:language>/<slug:version>.js": {"GET": PUBLIC},
    "login/": {"GET": PUBLIC},
    "logout/": {"POST": PUBLIC},
    "": {"GET": VIEWER},
    # Whoever sees that a robot must stop may stop it.
    "stop/": {"POST": VIEWER},
    "robots/<str:name>/stop/": {"POST": VIEWER},
    "views/": {"POST": VIEWER},
    "scripted/": {"GET": VIEWER, "POST": OPERATOR},
    "robots/<str:name>/": {"GET": VIEWER},
    "robots/<str:name>/_policies/": {"GET": VIEWER},
    "episodes/": {"GET": VIEWER},
    "episodes/_found/": {"GET": VIEWER},
    "episodes/export.csv": {"GET": VIEWER},
    "episodes/<uuid:uid>/": {"GET": VIEWER},
    "episodes/<uuid:uid>/steps.json": {"GET": VIEWER},
    "episodes/<uuid:uid>/curves.json": {"GET": VIEWER},
    "episodes/<uuid:uid>/replay.json": {"GET": VIEWER},
    "episodes/<uuid:uid>/frames/<str:camera>/<int:step>.jpg": {"GET": VIEWER},
    "episodes/<uuid:uid>/frames/<str:camera>/<int:index>.pack": {"GET": VIEWER},
    "corrections/<str:robot>/<int:epoch>/<uuid:uid>/": {"GET": VIEWER, "POST": OPERATOR},
    "policies/": {"GET": VIEWER},
    "policies/<int:number>/": {"GET": VIEWER},
    "policies/taint/": {"GET": VIEWER},
    "policies/<slug:name>/rebuild/": {"POST": LEAD},
    "policies/unpin/": {"POST": LEAD},
    "policies/canaries/<uuid:uid>/_canary/": {"GET": VIEWER},
    "policies/canaries/<uuid:uid>/cancel/": {"POST": LEAD},
    "policies/<slug:name>/mode/": {"POST": LEAD},
    "policies/<slug:name>/<int:number>/change/": {"GET": LEAD, "POST": LEAD},
    "policies/<slug:name>/<int:number>/rollback/": {"POST": LEAD},
    "policies/<slug:name>/<int:number>/describe/": {"POST": LEAD},
    "evaluations/": {"GET": VIEWER, "POST": LEAD},
    "evaluations/<uuid:uid>/": {"GET": VIEWER},
    "evaluations/<uuid:uid>/_progress/": {"GET": VIEWER},
    "evaluations/<uuid:uid>/cancel/": {"POST": LEAD},
    "evaluations/<uuid:uid>/figures.json": {"GET": VIEWER},
    "evaluations/<uuid:uid>/export.<str:kind>": {"GET": VIEWER},
    "experiments/": {"GET": VIEWER},
    "experiments/<str:name>/": {"GET": VIEWER},
    "experiments/<str:name>/<str:file>": {"GET": VIEWER},
    "dashboards/": {"GET": VIEWER},
    "dashboards/_summary/": {"GET": VIEWER},
    "dashboards/figures.json": {"GET": VIEWER},
    "dashboards/export.csv": {"GET": VIEWER},
    "label/": {"GET": LABELLER},
    "label/seat/": {"POST": LABELLER},
    "label/leave/": {"POST": LABELLER},
    "label/withdraw/": {"POST": LABELLER},
    "label/many/": {"GET": LABELLER},
    "label/bulk/": {"POST": LABELLER},
    "label/review/": {"GET": LABELLER},
    "label/<uuid:uid>/": {"GET": LABELLER},
    "label/<uuid:uid>/give/": {"POST": LABELLER},
    "label/<uuid:uid>/replay.json": {"GET": LABELLER},
    "label/thresholds/": {"GET": VIEWER},
    "label/thresholds/<slug:name>/preview.json": {"GET": VIEWER},
    "label/thresholds/<slug:name>/move/": {"POST": LEAD},
    "learner/": {"GET": VIEWER},
    "learner/_today/": {"GET": VIEWER},
    **{
        f"learner/_{part}/": {"GET": VIEWER}
        for part in ("state", "forgetting", "tasks", "rounds", "versions", "values")
    },
    "learner/figures.json": {"GET": VIEWER},
    "learner/<slug:name>/value/": {"GET": VIEWER, "POST": LEAD},
    "learner/<slug:name>/switch/": {"GET": VIEWER, "POST": LEAD},
}
API: dict[str, dict[str, str]] = {
    "api/": {"GET": PUBLIC},
    "api/openapi.json": {"GET": PUBLIC},
    "api/episodes": {"GET": VIEWER},
    "api/episodes/<uuidstr:uid>": {"GET": ROBOT},
    "api/episodes/<uuidstr:uid>/parts/<int:index>": {"PUT": ROBOT},
    "api/episodes/<uuidstr:uid>/close": {"POST": ROBOT},
    "api/episodes/<uuidstr:uid>/labels": {"POST": LABELLER},
    "api/policies": {"GET": VIEWER},
    "api/policies/<sha256>/weights": {"GET": VIEWER},
    "api/learners": {"GET": VIEWER},
    "api/learners/<slug:name>": {"GET": VIEWER},
    "api/learners/<slug:name>/start": {"POST": LEAD},
    "api/learners/<slug:name>/pause": {"POST": LEAD},
    "api/learners/<slug:name>/values": {"GET": VIEWER, "POST": LEAD},
    "api/learners/<slug:name>/values/<int:number>/cancel": {"POST": LEAD},
    "api/learners/<slug:name>/thresholds": {"POST": LEAD},
    "api/values/<sha256>/weights": {"GET": VIEWER},
    "api/evaluations": {"GET": VIEWER, "POST": LEAD},
    "api/evaluations/<uuidstr:uid>": {"GET": VIEWER},
    "api/evaluations/<uuidstr:uid>/cancel": {"POST": LEAD},
}
# Bodies that a right caller may send: the API reads them before it asks who calls.
BODIES: dict[str, dict[str, Any]] = {
    "api/episodes/<uuidstr:uid>/labels": {"outcome": "success"},
    "api/evaluations": {"first": {"learner": "tiny", "number": 1}, "trials_per_task": 1},
}
EVERYBODY = ("nobody", "outsider", "viewer", "labeller", "operator", "lead", "admin")


def routes(patterns: list[URLPattern | URLResolver], before: str = "") -> Iterator[str]:
    """Every address, as its pattern says it."""
    for one in patterns:
        route = before + str(one.pattern)
        if route in ELSEWHERE:
            continue
        if isinstance(one, URLResolver):
            yield from routes(one.url_patterns, route)
        else:
            yield route


def test_every_address_is_in_the_table():
    assert set(routes(get_resolver().url_patterns)) == PAGES.keys() | API.keys()
    for prefix, router in api._routers:
        for path, view in router.path_operations.items():
            route = f"api{prefix}{path}".replace("{", "<").replace("}", ">")
            methods = {method for one in view.operations for method in one.methods}
            assert methods - {"HEAD"} == API[route].keys(), route


@pytest.fixture
def values(db, robot, cast: Cast) -> dict[str, str]:
    """What addresses name: rows that are there where an address can be answered with one."""
    make_learner("tiny", started=False)
    made = record(robot, make_task("push"))
    send(made, robot)
    return {
        "<slug:language>": "en",
        "<slug:version>": "0",
        "robots/<str:name>": f"robots/{robot.name}",
        "experiments/<str:name>": "experiments/none",
        "<str:robot>": robot.name,
        "<int:epoch>": "1",
        "<uuid:uid>": str(Episode.objects.get().uid),
        "<uuidstr:uid>": str(Episode.objects.get().uid),
        "<slug:name>": "tiny",
        "<int:number>": "1",
        "<int:step>": "0",
        "<int:index>": "0",
        "<str:camera>": "front",
        "<str:kind>": "csv",
        "<str:file>": "none.json",
        "<sha256>": "0" * 64,
    }


def ask(client: Client, route: str, method: str, values: dict[str, str]) -> Any:
    path = f"/{route}"
    for name, value in values.items():
        path = path.replace(name, value)
    assert "<" not in path, path
    body = BODIES.get(route, {"uid": str(uuid.uuid4())}) if method != "GET" else None
    return client.generic(
        method, path, "" if body is None else api.renderer.render(None, body, response_status=200),
        content_type="application/json",
    )  # fmt: skip


def admitted(route: str, answer: Any) -> bool:
    """Whether whoever asked may; raises AssertionError for an answer that says neither."""
    assert answer.status_code < 500, (route, answer.status_code)
    if answer.status_code == 302 and answer["Location"].startswith("/login/"):
        return False
    return answer.status_code not in (401, 403)


@pytest.mark.parametrize("who", EVERYBODY)
def test_each_address_answers_those_who_may_and_nobody_else(who, values, cast: Cast):
    client, operator = Client(), None
    if who == "outsider":
        client.force_login(cast.outsider)
    elif who != "nobody":
        operator = getattr(cast, who)
        client.force_login(operator.user)
    wrong = []
    for route, methods in {**PAGES, **API}.items():
        for method, least in methods.items():
            # Whoever asks for that is somebody else afterwards.
            if route == "logout/":
                continue
            if least == PUBLIC:
                may = True
            elif least == ROBOT:
                may = False
            else:
                may = operator is not None and operator.may(Role(least))
            if admitted(route, ask(client, route, method, values)) != may:
                wrong.append(f"{method} /{route}: {'refused' if may else 'admitted'}")
    assert not wrong
