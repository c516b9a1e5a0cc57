from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ("fleet", "0002_stop_acknowledged"),
    ]

    operations = [
        migrations.AddField(
            model_name="robot",
            name="order",
            field=models.JSONField(blank=True, editable=False, null=True),
        ),
        migrations.AddField(
            model_name="robot",
            name="evaluation",
            field=models.CharField(blank=True, max_length=500),
        ),
    ]
