import logging

from django.db import migrations

from learning.services.text_indexes import create_text_indexes, drop_text_indexes


def create(apps, schema_editor):
    if problem := create_text_indexes(schema_editor.connection):
        logging.getLogger("learning").warning(problem)


def drop(apps, schema_editor):
    drop_text_indexes(schema_editor.connection)


class Migration(migrations.Migration):

    dependencies = [
        ('learning', '0009_desk'),
    ]

    operations = [
        migrations.RunPython(create, drop),
    ]
