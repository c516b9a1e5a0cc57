import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from learning.models import Episode, Label
from learning.services.text_indexes import INDEXES, create_text_indexes

postgresql = pytest.mark.skipif(
    connection.vendor != "postgresql", reason="other databases have no trigrams"
)


def indexes() -> set[str]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT indexname FROM pg_indexes WHERE indexname LIKE '%_trgm'")
        return {name for (name,) in cursor.fetchall()}


@postgresql
@pytest.mark.postgres
@pytest.mark.django_db
def test_words_inside_texts_are_found_by_an_index():
    with connection.cursor() as cursor:
        # The tables are empty: every index costs more than reading nothing.
        cursor.execute("SET LOCAL enable_seqscan = off")
    found = Episode.objects.filter(instruction__icontains="gently") | Episode.objects.filter(
        judge__icontains="gently"
    )
    plan = found.order_by().explain()
    assert "learning_episode_instruction_trgm" in plan
    assert "learning_episode_judge_trgm" in plan
    noted = Label.objects.filter(note__icontains="slipped").order_by().explain()
    assert "learning_label_note_trgm" in noted


@postgresql
@pytest.mark.postgres
@pytest.mark.django_db
def test_a_database_that_refuses_the_extension_is_migrated_all_the_same(capsys):
    with connection.cursor() as cursor:
        cursor.execute("DROP EXTENSION pg_trgm CASCADE")
        assert indexes() == set()
        cursor.execute("CREATE ROLE nobody_special")
        cursor.execute("SET LOCAL ROLE nobody_special")
        problem = create_text_indexes(connection)
        assert "pg_trgm" in problem
        assert "manage.py index_texts" in problem
        with pytest.raises(CommandError, match="superuser"):
            call_command("index_texts")
        # The transaction goes on, and a superuser mends it.
        cursor.execute("RESET ROLE")
    call_command("index_texts")
    call_command("index_texts")
    assert indexes() == set(INDEXES)


@pytest.mark.django_db
def test_where_there_are_no_trigrams_there_is_nothing_to_do(capsys):
    call_command("index_texts")
    assert ("nothing to do" in capsys.readouterr().out) == (connection.vendor != "postgresql")
