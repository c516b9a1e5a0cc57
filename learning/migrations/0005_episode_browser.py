import django.db.models.deletion
import django.utils.timezone
from django.db import migrations, models
from django.db.models import OuterRef, Q, Subquery, Value
from django.db.models.functions import Coalesce, NullIf


def keep_judgements(apps, schema_editor):
    """Write what people last said of each episode into the episode."""
    Episode = apps.get_model("learning", "Episode")
    Label = apps.get_model("learning", "Label")
    standing = Label.objects.filter(withdraws__isnull=True, withdrawal__isnull=True)
    last = standing.filter(episode=OuterRef("pk")).order_by("-id").values("outcome")[:1]
    judged = standing.values("episode_id")
    Episode.objects.filter(pk__in=judged).update(judged_outcome=Subquery(last))


def keep_uses(apps, schema_editor):
    """Give every first use to the learner whose round it fell in; with one learner, to that."""
    Episode = apps.get_model("learning", "Episode")
    EpisodeUse = apps.get_model("learning", "EpisodeUse")
    Learner = apps.get_model("learning", "Learner")
    Round = apps.get_model("learning", "Round")
    learners = list(Learner.objects.values_list("pk", flat=True))
    used = Episode.objects.filter(first_trained_step__gte=1)

    def write(learner, episodes):
        rows = (
            EpisodeUse(episode_id=pk, learner_id=learner, step=step, at=at)
            for pk, step, at in episodes.values_list(
                "pk", "first_trained_step", "first_trained_at"
            )
        )
        EpisodeUse.objects.bulk_create(rows, batch_size=500, ignore_conflicts=True)

    if len(learners) == 1:
        write(learners[0], used)
        return
    for learner, start, end, first_step in Round.objects.values_list(
        "learner", "started_at", "ended_at", "first_step"
    ):
        in_round = Q(first_trained_at__gte=start, first_trained_step__gte=first_step)
        if end is not None:
            in_round &= Q(first_trained_at__lte=end)
        write(learner, used.filter(in_round))


class Migration(migrations.Migration):

    dependencies = [
        ('fleet', '0003_trial_orders'),
        ('learning', '0004_labels_of_the_desk'),
    ]

    operations = [
        migrations.AddField(
            model_name='episode',
            name='judged_outcome',
            field=models.CharField(blank=True, default='', max_length=16),
            preserve_default=False,
        ),
        migrations.RunPython(keep_judgements, migrations.RunPython.noop),
        migrations.AddField(
            model_name='episode',
            name='outcome_in_force',
            field=models.GeneratedField(db_persist=True, expression=Coalesce(NullIf('judged_outcome', Value('')), NullIf('outcome', Value(''))), output_field=models.CharField(max_length=16, null=True)),
        ),
        migrations.AddIndex(
            model_name='episode',
            index=models.Index(fields=['started_at', 'uid'], name='learning_ep_started_fa1bc5_idx'),
        ),
        migrations.AddIndex(
            model_name='episode',
            index=models.Index(fields=['outcome_in_force', 'started_at', 'uid'], name='learning_ep_outcome_75eefc_idx'),
        ),
        migrations.AddIndex(
            model_name='episode',
            index=models.Index(fields=['task', 'started_at', 'uid'], name='learning_ep_task_id_033ce1_idx'),
        ),
        migrations.AddIndex(
            model_name='episode',
            index=models.Index(fields=['policy_number', 'started_at'], name='learning_ep_policy__55c9db_idx'),
        ),
        migrations.AddIndex(
            model_name='episode',
            index=models.Index(fields=['steps', 'uid'], name='learning_ep_steps_fc3613_idx'),
        ),
        migrations.AddIndex(
            model_name='episode',
            index=models.Index(fields=['human_steps', 'uid'], name='learning_ep_human_s_7e09a0_idx'),
        ),
        migrations.AddIndex(
            model_name='intervention',
            index=models.Index(fields=['operator', 'episode'], name='learning_in_operato_404b55_idx'),
        ),
        migrations.CreateModel(
            name='EpisodeUse',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('step', models.PositiveBigIntegerField()),
                ('at', models.DateTimeField(default=django.utils.timezone.now)),
                ('episode', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='uses', to='learning.episode')),
                ('learner', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='uses', to='learning.learner')),
            ],
            options={
                'ordering': ['learner_id', 'step'],
            },
        ),
        migrations.AddIndex(
            model_name='episodeuse',
            index=models.Index(fields=['learner', 'step'], name='learning_ep_learner_f875d0_idx'),
        ),
        migrations.AddConstraint(
            model_name='episodeuse',
            constraint=models.UniqueConstraint(fields=('episode', 'learner'), name='use_once_a_learner'),
        ),
        migrations.AddConstraint(
            model_name='episodeuse',
            constraint=models.CheckConstraint(condition=models.Q(('step__gte', 1)), name='use_step_from_1'),
        ),
        migrations.RunPython(keep_uses, migrations.RunPython.noop),
    ]
