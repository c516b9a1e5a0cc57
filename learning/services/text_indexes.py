"""Indexes for finding words inside texts, which only PostgreSQL has, and not every installation.

Trigrams of `pg_trgm` make `LIKE '%words%'` look at the rows that could match; without them it reads
them all, and is as right. So they are not fields' indexes of a model, which every database needs.
"""

from django.db import DatabaseError, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

# What `icontains` compares is upper case.
INDEXES = {
    "learning_episode_instruction_trgm": "learning_episode USING gin (UPPER(instruction) {})",
    "learning_episode_judge_trgm": "learning_episode USING gin (UPPER(judge) {})",
    "learning_label_note_trgm": "learning_label USING gin (UPPER(note) {})",
}
ADVICE = (
    "words are searched for in every episode, which takes about a second among 100,000; let a"
    " superuser of the database run CREATE EXTENSION pg_trgm and then run manage.py index_texts"
)


def create_text_indexes(connection: BaseDatabaseWrapper) -> str:
    """Make the indexes where the database is a PostgreSQL; return what hinders it, or nothing.

    Called twice: the second call changes nothing. Writing waits while an index is made, seconds for
    100,000 episodes.
    """
    if connection.vendor != "postgresql":
        return ""
    try:
        # A savepoint: a migration goes on after a refusal.
        with transaction.atomic(using=connection.alias), connection.cursor() as cursor:
            cursor.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm")
            for name, where in INDEXES.items():
                cursor.execute(
                    f"CREATE INDEX IF NOT EXISTS {name} ON {where.format('gin_trgm_ops')}"
                )
    except DatabaseError as error:
        return f"pg_trgm is not to be had ({str(error).strip().splitlines()[0]}): {ADVICE}"
    return ""


def drop_text_indexes(connection: BaseDatabaseWrapper) -> None:
    """Remove the indexes, and leave the extension, which others may use."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            for name in INDEXES:
                cursor.execute(f"DROP INDEX IF EXISTS {name}")
