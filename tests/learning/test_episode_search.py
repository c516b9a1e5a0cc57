import csv
import io
import uuid
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

import pytest
from asgiref.sync import async_to_sync
from django.db import connection
from django.test import AsyncClient, Client
from django.test.utils import CaptureQueriesContext

from fleet.models import Operator
from learning.models import Episode, EpisodeUse, Intervention, Learner
from learning.models.episodes import Purpose
from learning.selectors import search
from learning.selectors.episodes import misjudged
from learning.services.labels import add_label, label_many, withdraw_label
from tests.factories import make_robot, make_task
from tests.learning.fleets import make_version
from tests.learning.test_pages import make_episode, page, signed_in

DAY = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture
def learner(db):
    return Learner.objects.create(name="hg-dagger")


@pytest.fixture
def made(cast, learner) -> dict[int, Episode]:
    """Seven episodes that differ in everything one can search for, by their number."""
    stack, push = make_task("stack"), make_task("push")
    one, two = make_robot("arm-1"), make_robot("arm-2")
    make_version(learner, 3, step=30)
    make_version(learner, 4, step=40)
    sha = f"{learner.pk:032x}{4:032x}"
    made = {
        1: make_episode(1, one, stack, human_steps=5, instruction="stack it gently"),
        2: make_episode(2, one, stack, purpose=Purpose.EVAL, policy_number=2),
        3: make_episode(3, two, push, outcome="timeout", policy_number=3, steps=7),
        4: make_episode(4, two, push, complete=False, policy_number=4, policy_sha256=sha),
        5: make_episode(
            5, two, push, policy_number=4, policy_sha256="f" * 64,
            uid=uuid.UUID("abcdef01-2345-4678-8000-000000000005"),
        ),
        6: make_episode(6, two, stack, policy_number=None, purpose=Purpose.DEMONSTRATION),
        7: make_episode(
            7, one, stack, state="open", outcome="", closed_at=None, closed_seq=None,
            manifest_sha256="", complete=False, ended_at=None, policy_number=None,
        ),
    }  # fmt: skip
    for number, episode in made.items():
        Episode.objects.filter(pk=episode.pk).update(started_at=DAY + timedelta(days=number))
    Intervention.objects.create(episode=made[1], start=10, end=15, operator="ann")
    add_label(episode_uid=made[3].uid, operator=cast.labeller, outcome="failure", note="slipped")
    add_label(episode_uid=made[2].uid, operator=cast.lead, outcome="failure")
    add_label(episode_uid=made[2].uid, operator=cast.labeller, outcome="success")
    EpisodeUse.objects.create(episode=made[1], learner=learner, step=30)
    EpisodeUse.objects.create(episode=made[5], learner=learner, step=31)
    return made


def shown(cast, query: str, made: dict[int, Episode]) -> set[int]:
    text = page(cast.viewer, f"/episodes/?{query}")
    return {number for number, episode in made.items() if f"/episodes/{episode.uid}/" in text}


@pytest.mark.parametrize(
    ("query", "numbers"),
    [
        ("", {1, 2, 3, 4, 5, 6, 7}),
        ("task=stack", {1, 2, 6, 7}),
        ("robot=arm-2", {3, 4, 5, 6}),
        ("purpose=eval", {2}),
        ("purpose=demonstration", {6}),
        ("outcome=timeout", set()),
        ("outcome=failure", {3}),
        ("outcome=success", {1, 2, 4, 5, 6}),
        ("outcome=cut", {4}),
        ("outcome=open", {7}),
        ("corrected=1", {1}),
        ("corrected=0", {2, 3, 4, 5, 6, 7}),
        ("labelled=1", {2, 3}),
        ("labelled=0", {1, 4, 5, 6, 7}),
        ("by=ann", {1}),
        ("by=labeller", {2, 3}),
        ("by=lead", {2}),
        ("by=nobody", set()),
        ("policy_from=3", {3, 4, 5}),
        ("policy_to=2", {1, 2}),
        ("policy_from=2&policy_to=3", {2, 3}),
        ("made=hg-dagger+v4", {4}),
        ("made=hg-dagger+v3", {3}),
        ("trained=hg-dagger+v3", {1}),
        ("trained=hg-dagger+v4", {1, 5}),
        ("since=2026-03-06", {5, 6, 7}),
        ("until=2026-03-03", {1, 2}),
        ("since=2026-03-03&until=2026-03-03", {2}),
        ("q=GENTLY", {1}),
        ("q=slipped", {3}),
        ("q=abcdef", {5}),
        ("q=ABCDEF01-2345", {5}),
        ("q=%25", set()),
        ("q=banana", set()),
        ("task=push&outcome=success&q=abcdef", {5}),
        ("++task=&robot=&sort=oldest", {1, 2, 3, 4, 5, 6, 7}),
        ("unknown=1", {1, 2, 3, 4, 5, 6, 7}),
    ],
)
def test_every_filter_finds_what_it_names(cast, made, query, numbers, monkeypatch):
    assert shown(cast, query, made) == numbers
    # As if they were more than are counted.
    monkeypatch.setattr(search, "COUNTED", 0)
    assert shown(cast, query, made) == numbers


@pytest.mark.parametrize(
    ("order", "first"),
    [("newest", 7), ("oldest", 1), ("longest", None), ("shortest", 3), ("corrected", 1)],
)
def test_lists_are_ordered_by_what_is_chosen(made, order, first):
    rows = search.find(search.Search(order=order)).episodes
    field = search.ORDERS[order].field
    values = [getattr(row, field) for row in rows]
    assert values == sorted(values, reverse=search.ORDERS[order].descending)
    assert first is None or rows[0].pk == made[first].pk


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("task=nothing", "No task is named “nothing”"),
        ("task=%00", "Null characters"),
        ("task=" + "x" * 65, "at most 64"),
        ("robot=%F0%9F%A4%96", "No robot is named"),
        ("robot=%ED%A0%80", "No robot is named"),
        ("purpose=fun", "is none of: train, eval"),
        ("outcome=great", "is none of: success"),
        ("corrected=maybe", "is none of: 1, 0"),
        ("labelled=%00", "is none of: 1, 0"),
        ("by=%00", "Null characters"),
        ("by=" + "x" * 151, "at most 150"),
        ("policy_from=many", "whole number"),
        ("policy_from=-1", "greater than or equal to 0"),
        ("policy_to=" + "9" * 5000, "whole number"),
        ("policy_to=99999999999", "less than or equal to"),
        ("policy_from=9&policy_to=3", "no policy between 9 and 3"),
        ("made=v3", "Write a learner and a version"),
        ("trained=hg-dagger+v99", "has no version 99"),
        ("since=yesterday", "year-month-day"),
        ("since=0001-01-01", "between the years"),
        ("until=9999-12-31", "between the years"),
        ("since=2026-03-05&until=2026-03-04", "before the first"),
        ("q=%00", "Null characters"),
        ("q=" + "x" * 201, "at most 200"),
        ("sort=%27%3B--", "is none of: newest"),
        ("after=banana", "names no place"),
        ("after=2026-03-05T00:00:00~abc", "names no place"),
        ("after=9999999999999~00000000-0000-0000-0000-000000000001&sort=longest", "no place"),
        ("after=2026-03-05T00:00:00~00000000-0000-0000-0000-000000000001", "names no place"),
        ("before=~", "names no place"),
    ],
)
def test_rubbish_in_an_address_is_answered_in_words(cast, made, query, words):
    answer = signed_in(cast.viewer).get(f"/episodes/?{query}")
    text = answer.content.decode()
    assert answer.status_code == 400
    assert "Nothing was searched" in text
    assert words in text
    assert not any(str(episode.uid) in text for episode in made.values())
    # Live filters are answered with the same words; an export does not begin.
    live = signed_in(cast.viewer).get(f"/episodes/_found/?{query}")
    assert live.status_code == 200
    assert words in live.content.decode()
    assert signed_in(cast.viewer).get(f"/episodes/export.csv?{query}").status_code == 400


def many(n: int, robot, task) -> list[Episode]:
    """Episodes of which every three started at the same moment."""
    at = DAY + timedelta(hours=1)
    rows = [make_episode(i + 1, robot, task, steps=100 + i % 4) for i in range(n)]
    for i, row in enumerate(rows):
        row.started_at = at + timedelta(minutes=i // 3)
    Episode.objects.bulk_update(rows, ["started_at"])
    return rows


@pytest.mark.parametrize("counted", [1000, 0], ids=["few", "more-than-are-counted"])
@pytest.mark.parametrize("order", ["newest", "oldest", "longest", "corrected"])
def test_pages_stay_put_while_new_episodes_arrive(robot, task, order, counted, monkeypatch):
    many(23, robot, task)
    wanted = search.Search(order=order)
    expected = [row.uid for row in search.find(wanted, size=100).episodes]
    monkeypatch.setattr(search, "COUNTED", counted)
    seen, found = [], search.find(wanted, size=5)
    pages = [found]
    while True:
        seen += [row.uid for row in found.episodes]
        # Newer than all of them, and in every order somewhere among them.
        make_episode(1000 + len(seen), robot, task, steps=102, human_steps=0)
        if found.older is None:
            break
        found = search.find(wanted, after=found.older, size=5)
        pages.append(found)
    assert [uid for uid in seen if uid in expected] == expected
    assert len(set(seen)) == len(seen)
    # Back from the third page is the second, whatever arrived since at the top.
    if order == "newest":
        back = search.find(wanted, before=pages[2].newer, size=5)
        assert [row.uid for row in back.episodes] == [row.uid for row in pages[1].episodes]


def test_going_back_to_the_beginning_gives_the_whole_first_page(robot, task):
    many(12, robot, task)
    first = search.find(search.Search(), size=5)
    second = search.find(search.Search(), after=first.older, size=5)
    again = search.find(search.Search(), before=second.newer, size=5)
    assert [row.pk for row in again.episodes] == [row.pk for row in first.episodes]
    assert again.newer is None
    assert (first.count, first.more) == (12, False)
    half = search.cursor_of(first.episodes[2], "newest")
    assert len(search.find(search.Search(), before=half, size=5).episodes) == 5


def test_addresses_of_pages_keep_the_filter_and_lead_there_and_back(cast, robot, task):
    many(52, robot, task)
    client = signed_in(cast.viewer)
    first = client.get("/episodes/?task=stack&sort=oldest").content.decode()
    assert "52 episodes found" in first
    assert 'rel="prev"' not in first
    query = parse_qs(urlsplit(link(first, "next")).query)
    assert (query["task"], query["sort"]) == (["stack"], ["oldest"])
    second = client.get(link(first, "next")).content.decode()
    assert second.count("<tr><td>") == 2
    assert 'rel="next"' not in second
    back = client.get(link(second, "prev")).content.decode()
    assert back.count("<tr><td>") == 50
    assert 'rel="prev"' not in back


def link(text: str, rel: str) -> str:
    from html import unescape

    return unescape(text.split(f'rel="{rel}" href="')[1].split('"')[0])


def test_a_count_stops_at_its_limit(cast, robot, task, monkeypatch):
    monkeypatch.setattr(search, "COUNTED", 60)
    many(62, robot, task)
    assert "more than 60 episodes" in page(cast.viewer, "/episodes/")


def test_active_filters_are_shown_in_words_and_each_can_be_removed(cast, made):
    text = page(cast.viewer, "/episodes/?task=stack&labelled=0&q=gently&sort=oldest")
    assert "Remove the filter Task: stack" in text
    assert "Remove the filter Labelled: not yet" in text
    assert 'href="/episodes/?q=gently&amp;task=stack&amp;sort=oldest"' in text


def test_an_empty_result_names_the_filters_to_remove(cast, made):
    text = page(cast.viewer, "/episodes/?task=stack&outcome=timeout")
    assert "No episode fits all 2 filters" in text
    assert "Search without Outcome: timeout" in text
    beyond = search.Cursor(DAY - timedelta(days=9), uuid.UUID(int=0))
    query = f"after={beyond}".replace("+", "%2B")
    assert "The list ends before this page" in page(cast.viewer, f"/episodes/?{query}")


def test_a_live_filter_moves_the_address_without_what_is_empty(cast, made):
    answer = signed_in(cast.viewer).get("/episodes/_found/?q=&task=stack&sort=&by=+")
    assert answer.headers["HX-Push-Url"] == "/episodes/?task=stack"
    assert "<html" not in answer.content.decode()
    answer = signed_in(cast.viewer).get("/episodes/_found/?q=")
    assert answer.headers["HX-Push-Url"] == "/episodes/"


def queries(client: Client, path: str) -> int:
    client.get(path)
    with CaptureQueriesContext(connection) as captured:
        assert client.get(path).status_code == 200
    return len(captured)


def test_the_number_of_queries_does_not_grow_with_the_list(cast, made, robot):
    client = signed_in(cast.viewer)
    path = "/episodes/?robot=arm-a&task=push&corrected=1"
    one = make_episode(99, robot, made[3].task, human_steps=2)
    Intervention.objects.create(episode=one, start=0, end=2, operator="ann")
    few = queries(client, path)
    for i in range(60):
        row = make_episode(100 + i, robot, made[3].task, human_steps=2)
        Intervention.objects.create(episode=row, start=0, end=2, operator=f"ann-{i}")
    assert queries(client, path) == few
    assert few <= 12


def test_the_selection_is_exported_in_chunks_with_inert_text(cast, made, monkeypatch):
    monkeypatch.setattr(search, "CHUNK", 2)
    monkeypatch.setattr(search.chunks, "__kwdefaults__", {"size": 2})
    Episode.objects.filter(pk=made[1].pk).update(instruction="=HYPERLINK(1)")
    answer = signed_in(cast.viewer).get("/episodes/export.csv?task=stack&sort=oldest")
    assert answer.streaming
    assert "attachment" in answer.headers["Content-Disposition"]
    chunks = [chunk.decode() for chunk in answer.streaming_content]
    assert len(chunks) == 3
    rows = list(csv.DictReader(io.StringIO("".join(chunks))))
    assert [row["uid"] for row in rows] == [str(made[i].uid) for i in (1, 2, 6, 7)]
    assert rows[0]["instruction"] == "'=HYPERLINK(1)"
    assert (rows[1]["judged_outcome"], rows[1]["outcome_in_force"]) == ("success", "success")
    assert (rows[0]["corrected_by"], rows[3]["ended_at"]) == ("ann", "")


def test_the_server_sends_the_export_as_it_is_read(cast, made):
    async def download() -> tuple[bool, str]:
        client = AsyncClient()
        await client.aforce_login(cast.viewer.user)
        answer = await client.get("/episodes/export.csv")
        chunks = [chunk async for chunk in answer.streaming_content]
        return answer.is_async, b"".join(chunks).decode()

    is_async, text = async_to_sync(download)()
    assert is_async
    assert text.count("\n") == 8


def test_the_kept_judgement_is_what_a_recount_of_the_labels_says(cast, robot, task):
    rows = [make_episode(i, robot, task) for i in range(1, 6)]
    people: list[Operator] = [cast.labeller, cast.lead]
    for i, outcome in enumerate(("failure", "timeout", "success", "failure", "failure", "abort")):
        add_label(episode_uid=rows[i % 4].uid, operator=people[i % 2], outcome=outcome)
    taken_back = add_label(
        episode_uid=rows[0].uid, operator=cast.lead, outcome="partial", uid=uuid.uuid4()
    )
    withdraw_label(label_uid=taken_back.uid, operator=cast.lead)
    only = add_label(episode_uid=rows[4].uid, operator=cast.lead, outcome="abort", uid=uuid.uuid4())
    withdraw_label(label_uid=only.uid, operator=cast.lead)
    label_many(episode_uids=[rows[3].uid], operator=cast.lead, outcome="partial")
    assert not misjudged().exists()
    in_force = dict(Episode.objects.values_list("pk", "outcome_in_force"))
    assert [in_force[row.pk] for row in rows] == [
        "failure", "abort", "success", "partial", "success",
    ]  # fmt: skip
    Episode.objects.filter(pk=rows[0].pk).update(judged_outcome="success")
    assert [row.pk for row in misjudged()] == [rows[0].pk]


def test_pages_of_episodes_ask_strangers_to_sign_in(client, cast, made):
    for path in ("/episodes/", "/episodes/_found/", "/episodes/export.csv", "/policies/3/",
                 f"/episodes/{made[1].uid}/", f"/episodes/{made[1].uid}/steps.json"):  # fmt: skip
        assert client.get(path).headers["Location"].startswith("/login/?next="), path
