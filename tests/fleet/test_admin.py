import pytest
from django.contrib import admin
from django.test import Client
from django.urls import reverse

from fleet.models import Robot, TakeoverLease
from fleet.services import events, takeover
from tests.factories import Cast, make_fleet_settings, make_robot, make_task

MODELS = [
    "task",
    "fleetsettings",
    "robot",
    "operator",
    "takeoverlease",
    "policyreport",
    "helprequest",
    "savedview",
]


@pytest.fixture
def client(cast: Cast) -> Client:
    client = Client()
    client.force_login(cast.admin.user)
    return client


@pytest.mark.parametrize("model", MODELS)
def test_every_model_has_a_list(client: Client, cast: Cast, model: str):
    make_fleet_settings()
    robot = make_robot()
    make_task()
    takeover.grant_lease(robot=robot.name, operator=cast.operator)
    response = client.get(reverse(f"admin:fleet_{model}_changelist"))
    assert response.status_code == 200


@pytest.mark.parametrize("role", ["viewer", "labeller", "operator", "lead"])
def test_only_admins_come_in(cast: Cast, role: str):
    client = Client()
    client.force_login(getattr(cast, role).user)
    response = client.get(reverse("admin:fleet_robot_changelist"))
    assert response.status_code == 302
    assert "login" in response.url


def test_leases_cannot_be_made_or_changed_by_hand(client: Client, cast: Cast):
    robot = make_robot()
    takeover.grant_lease(robot=robot.name, operator=cast.operator)
    lease = TakeoverLease.objects.get()
    assert client.get(reverse("admin:fleet_takeoverlease_add")).status_code == 403
    page = reverse("admin:fleet_takeoverlease_change", args=[lease.pk])
    assert client.post(page, {"how": "lost"}).status_code == 403


def test_a_new_robot_shows_its_token_once(client: Client):
    response = client.post(
        reverse("admin:fleet_robot_add"),
        {"name": "arm-01", "kind": "real", "enabled": "on"},
        follow=True,
    )
    (message,) = [str(m) for m in response.context["messages"] if "shown this once" in str(m)]
    token = message.rsplit(" ", 1)[1]
    from fleet.selectors.access import access_robot_by_token

    assert access_robot_by_token(token) == Robot.objects.get(name="arm-01")


def test_a_changed_task_is_told_to_the_robots(
    client: Client, monkeypatch, django_capture_on_commit_callbacks
):
    sent: list[str] = []
    monkeypatch.setattr(events, "publish", lambda channel, payload: sent.append(channel))
    robot, task = make_robot(), make_task("reach")
    with django_capture_on_commit_callbacks(execute=True):
        response = client.post(
            reverse("admin:fleet_task_change", args=[task.pk]),
            {
                "name": "reach", "title": "Reach", "instruction": "go there", "paraphrases": "[]",
                "family": "test", "timeout_ticks": 50, "weight": 1, "layout_low": 0,
                "layout_high": 1, "enabled": "on",
            },
        )  # fmt: skip
    assert response.status_code == 302
    assert events.commands_of(robot.name) in sent


def test_every_model_of_the_app_is_registered():
    names = {
        model._meta.model_name for model in admin.site._registry if model._meta.app_label == "fleet"
    }
    assert names == set(MODELS)
