"""The console in Chinese: every page, what robots and services said, and what stays as it is."""

import re
from collections.abc import Iterator

import pytest
from django.conf import settings
from django.test import Client
from django.utils import timezone, translation

from fleet import phrases
from fleet.models import PolicyReport
from learning.models import Learner, PolicyVersion, Round
from learning.services.canaries import start_canary
from learning.services.evaluations import request_evaluation
from learning.services.labels import add_label
from learning.services.rollouts import pin, roll_back
from sop_web import words
from tests.factories import Cast, make_robot
from tests.learning.fleets import make_idle, make_version
from tests.learning.making import SPEC, record, send
from tests.learning.test_pages import signed_in

CHINESE = {"Accept-Language": "zh-CN,zh;q=0.9,en;q=0.5"}
NOBODY = "00000000-0000-0000-0000-000000000007"


@pytest.fixture(autouse=True)
def back_to_english() -> Iterator[None]:
    """What a request spoke, its thread goes on speaking until the next one."""
    yield
    translation.deactivate()


def in_chinese(client: Client) -> Client:
    client.cookies[settings.LANGUAGE_COOKIE_NAME] = "zh-hans"
    return client


def english_in(page: str) -> list[str]:
    """Runs of three English words that a page shows, or says to who hears it."""
    page = re.sub(r"<(script|code|kbd)\b.*?</\1>", " ", page, flags=re.DOTALL)
    spoken = re.findall(r'\b(?:title|aria-label|placeholder|alt|data-word)="([^"]*)"', page)
    shown = re.sub(r"<[^>]*>", "\n", page)
    text = "\n".join([shown, *spoken])
    return re.findall(r"[A-Za-z]{2,}(?:[ ,.:]+[a-z]{2,}){2,}", text)


def _have_canaries_and_changes(cast: Cast, version: PolicyVersion) -> None:
    """A canary that a rollback ended, one that runs, and a pin."""
    for name in ("arm-8", "arm-9"):
        make_idle(
            name, assigned_number=3, assigned_sha256=version.sha256, assigned_at=timezone.now()
        )
    newer = make_version(version.learner, 4)
    start_canary(newer, operator=None, incumbent=version)
    roll_back(version, operator=cast.lead)
    start_canary(newer, operator=cast.lead, incumbent=version)
    pin(version, robots=["arm-new"], operator=cast.lead)


@pytest.fixture
def everything(cast: Cast, robot, task) -> dict[str, str]:
    """Something of everything that pages show; returns the addresses that name it."""
    robot.spec = {"cameras": [], "state_names": ["hand"], "action_names": ["x", "gripper"]}
    robot.assigned_number, robot.assigned_sha256 = 3, "0" * 64
    robot.assigned_at = "2026-01-01T00:00:00Z"
    robot.save()
    make_robot("arm-new")
    learner = Learner.objects.create(name="hg-dagger")
    version = make_version(learner, 3)
    Round.objects.create(
        learner=learner, number=1, epoch=1, state="lost", reason="its worker went away",
        ended_at="2026-01-01T00:00:00Z",
    )  # fmt: skip
    PolicyReport.objects.create(
        robot=robot, number=3, status="rejected", reason="its actions are not finite",
        robot_wall_ns=1, reported_at="2026-01-01T00:00:00Z",
    )  # fmt: skip
    modes = (0, 0, 2, 1, 1, 0)
    episode = send(record(robot, task, modes=modes, spec=SPEC, outcome="failure"), robot)
    add_label(episode_uid=episode.uid, operator=cast.labeller, outcome="failure", reason="slipped")
    evaluation = request_evaluation(
        operator=cast.lead, first=version, tasks=[task], trials_per_task=2
    )
    _have_canaries_and_changes(cast, version)
    return {"robot": robot.name, "episode": str(episode.uid), "evaluation": str(evaluation.uid)}


# Address, who looks, and what the page says.
PAGES = [
    ("/", "lead", "机队"),
    ("/robots/{robot}/", "operator", "控制"),
    ("/robots/{robot}/", "viewer", "您的角色可以观察和停止"),
    ("/robots/{robot}/_policies/", "viewer", "其动作不是有限数值"),
    ("/robots/arm-new/", "viewer", "尚未接入"),
    ("/robots/nobody/", "viewer", "没有机器人 nobody。"),
    ("/scripted/", "operator", "脚本操作员"),
    ("/episodes/", "viewer", "更多筛选条件"),
    ("/episodes/?outcome=failure&since=yesterday", "viewer", "日期请写成年-月-日"),
    ("/episodes/?task=nothing", "viewer", "没有名为“nothing”的任务。"),
    ("/episodes/{episode}/", "viewer", "谱系"),
    ("/label/", "labeller", "标注结果"),
    ("/label/many/", "labeller", "批量标注"),
    ("/label/review/", "labeller", "标注员一致性"),
    ("/label/thresholds/", "lead", "阈值"),
    ("/learner/", "lead", "启动学习器"),
    ("/learner/_rounds/", "viewer", "其工作进程已退出"),
    ("/learner/_today/", "viewer", "零点以来"),
    ("/evaluations/", "lead", "新建评估"),
    ("/evaluations/{evaluation}/", "lead", "事先声明"),
    ("/experiments/", "viewer", "尚无实验"),
    ("/policies/3/", "viewer", "它产生的回合"),
    ("/policies/3/", "lead", "把机队回滚到 v3"),
    ("/policies/", "lead", "所有机器人从 v3 改为 v3；学习器现为手动，之前为金丝雀"),
    ("/policies/?tag=none", "viewer", "没有符合筛选条件的版本"),
    ("/policies/4/", "lead", "v4 的金丝雀已结束：v3 被手动推送"),
    ("/policies/hg-dagger/4/change/?act=rollout&whom=all", "lead", "将变更的机器人"),
    ("/policies/hg-dagger/4/change/?act=canary&whom=all", "lead", "金丝雀须把一些机器人留给"),
    ("/policies/hg-dagger/4/change/?act=canary&whom=share&share=50", "lead", "开始金丝雀"),
    ("/policies/taint/", "viewer", "尚未追溯"),
    ("/policies/taint/?episode={episode}", "lead", "涉及 1 个回合"),
    ("/policies/taint/?episode=x", "lead", "这不是回合的 uid。"),
    ("/dashboards/", "viewer", "操作员分钟数"),
    ("/dashboards/?since=yesterday", "viewer", "日期请写成年-月-日"),
    ("/nothing/", "viewer", "没有此页面"),
    ("/learner/", "outsider", "此账号不是机队的操作员。"),
]


def test_every_page_speaks_chinese_and_no_english(
    cast: Cast, everything: dict[str, str], settings, tmp_path
) -> None:
    settings.SOP_EXPERIMENTS = tmp_path
    assert len(english_in(signed_in(cast.viewer).get("/").content.decode())) > 10
    for path, who, says in PAGES:
        client = Client()
        client.force_login(getattr(getattr(cast, who), "user", None) or cast.outsider)
        page = in_chinese(client).get(path.format(**everything)).content.decode()
        assert says in page, (path, who)
        assert english_in(page) == [], (path, who)
        if "<html" in page:
            assert '<html lang="zh-hans">' in page, path


def test_the_language_is_the_browsers_until_one_is_chosen(cast: Cast) -> None:
    client = Client(headers=CHINESE)
    assert "登录" in client.get("/login/").content.decode()
    chosen = client.post("/language/", {"language": "en", "next": "/login/"})
    assert chosen["Location"] == "/login/"
    assert int(chosen.cookies[settings.LANGUAGE_COOKIE_NAME]["max-age"]) > 300 * 24 * 3600
    page = client.get("/login/").content.decode()
    assert '<html lang="en">' in page
    assert "Sign in" in page
    # The other language is offered in its own words, and what nobody speaks changes nothing.
    assert 'value="zh-hans" lang="zh-hans">中文</button>' in page
    client.post("/language/", {"language": "tlh", "next": "https://elsewhere.example/"})
    assert '<html lang="en">' in client.get("/login/").content.decode()


def test_what_programs_read_is_the_same_in_every_language(
    cast: Cast, everything: dict[str, str]
) -> None:
    english, chinese = signed_in(cast.viewer), in_chinese(signed_in(cast.viewer))
    for path in ("/episodes/export.csv", "/episodes/{episode}/replay.json", "/api/episodes",
                 "/episodes/{episode}/steps.json", "/api/episodes/" + NOBODY,
                 "/evaluations/{evaluation}/export.csv"):  # fmt: skip
        address = path.format(**everything)
        answers = [c.get(address) for c in (english, chinese)]
        one, other = (b"".join(a) if a.streaming else a.content for a in answers)
        assert one == other, path
    figures = [
        re.findall(r'data-(?:sla-s|timeout-ticks|total)="([^"]*)"', c.get(path).content.decode())
        for c in (english, chinese)
        for path in ["/"]
    ]
    assert figures[0] == figures[1] == ["30"]


def test_scripts_get_their_words_from_an_address_that_changes_with_them(cast: Cast) -> None:
    assert b"/words/" not in signed_in(cast.viewer).get("/").content
    client = in_chinese(signed_in(cast.viewer))
    page = client.get("/").content.decode()
    address = re.search(r'<script src="(/words/zh-hans/\w+\.js)" defer></script>', page)[1]
    assert page.index(address) < page.index("js/shell.js")
    answer = client.get(address)
    assert answer["Cache-Control"] == words.KEEP_FOR_EVER
    text = answer.content.decode()
    assert '"Take over": "\\u63a5\\u7ba1"' in text
    assert '"stopped by %(name)s": "由 %(name)s 停止"' in text
    assert client.get("/words/zh-hans/old.js")["Cache-Control"] == "no-store"
    assert client.get("/words/tlh/old.js").status_code == 404


def test_what_is_said_in_english_is_found_by_its_sentence() -> None:
    with translation.override("zh-hans"):
        assert phrases.said("it rejected v7: its actions are not finite") == (
            "它拒绝了 v7：其动作不是有限数值"
        )
        assert phrases.said("stopped by ada · no progress for 4 s") == "由 ada 停止 · 4 s 没有进展"
        assert phrases.said("Succeeded 7 %(name)s") == "Succeeded 7 %(name)s"
    with translation.override("en"):
        assert phrases.said("stopped by ada") == "stopped by ada"
