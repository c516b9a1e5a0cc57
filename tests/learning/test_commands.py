import pytest
from django.core.management import CommandError, call_command

from learning.models import Episode, Learner, PolicyVersion
from learning.services.learners import pause_learner
from tests.learning.making import record


@pytest.fixture
def folder(tmp_path, task):
    """Two demonstrations on disk, as the generator writes them."""
    for seed in range(2):
        recorded = record(None, task, purpose="demonstration", policy_number=None, seed=seed)
        path = tmp_path / "demonstrations" / str(recorded.uid)
        path.mkdir(parents=True)
        for index, data in enumerate(recorded.parts):
            (path / f"part-{index:04d}.arrow").write_bytes(data)
        (path / "manifest.json").write_bytes(recorded.manifest_json)
    return tmp_path / "demonstrations"


def test_demonstrations_are_imported_once(folder, store):
    for _ in range(2):
        call_command("import_episodes", folder, verbosity=0)
    assert list(Episode.objects.values_list("purpose", "state")) == [
        ("demonstration", "closed"),
        ("demonstration", "closed"),
    ]
    assert all(store.size(p.sha256) for e in Episode.objects.all() for p in e.parts.all())


def test_an_import_that_was_interrupted_goes_on(folder):
    first, second = sorted(folder.iterdir())
    part = second / "part-0001.arrow"
    kept = part.read_bytes()
    part.unlink()
    with pytest.raises(CommandError, match=second.name):
        call_command("import_episodes", folder, verbosity=0)
    assert [str(e.uid) for e in Episode.objects.filter(state="closed")] == [first.name]
    part.write_bytes(kept)
    call_command("import_episodes", folder, verbosity=0)
    assert Episode.objects.filter(state="closed").count() == 2


def test_a_damaged_demonstration_is_named_and_not_imported(folder):
    bad = sorted(folder.iterdir())[0]
    (bad / "part-0000.arrow").write_bytes(b"rubbish")
    with pytest.raises(CommandError, match=bad.name):
        call_command("import_episodes", folder, verbosity=0)
    assert not Episode.objects.exists()


def test_an_empty_folder_is_an_error(tmp_path, db):
    with pytest.raises(CommandError, match="no episodes"):
        call_command("import_episodes", tmp_path, verbosity=0)


@pytest.mark.django_db
def test_seeding_makes_one_learner_with_the_base_policy_on_every_robot(robot, tmp_path):
    base = tmp_path / "base.safetensors"
    base.write_bytes(b"weights")
    for _ in range(2):
        call_command("seed_learner", base=base, start=True, seed=7, verbosity=0)
    learner = Learner.objects.get()
    assert (learner.name, learner.state, learner.algorithm) == ("hg-dagger", "running", "hg_dagger")
    assert learner.config["seed"] == 7
    version = PolicyVersion.objects.get()
    assert (version.number, version.state) == (1, "published")
    robot.refresh_from_db()
    assert robot.assigned_sha256 == version.sha256


def test_a_learner_is_seeded_with_the_algorithm_asked_for(robot, tmp_path):
    base = tmp_path / "base.safetensors"
    base.write_bytes(b"weights")
    call_command("seed_learner", name="recap", algorithm="recap", base=base, verbosity=0)
    assert Learner.objects.get().algorithm == "recap"


def test_a_learner_that_was_paused_stays_paused_when_seeded_again(robot, tmp_path):
    base = tmp_path / "base.safetensors"
    base.write_bytes(b"weights")
    call_command("seed_learner", base=base, start=True, verbosity=0)
    pause_learner("hg-dagger")
    call_command("seed_learner", base=base, start=True, verbosity=0)
    assert Learner.objects.get().state == "paused"


def test_a_learner_of_another_algorithm_starts_with_its_own_options(db):
    call_command("seed_learner", name="plain", algorithm="filtered_bc", verbosity=0)
    learner = Learner.objects.get()
    assert (learner.algorithm, learner.config["learner"]) == ("filtered_bc", {})
    assert learner.config["sampler"]["kind"] == "adaptive"


def test_a_missing_base_policy_is_a_sentence(db, tmp_path):
    with pytest.raises(CommandError, match="no base policy"):
        call_command("seed_learner", base=tmp_path / "nothing", verbosity=0)


def test_the_shipped_recipe_and_base_policy_fit_the_code():
    from learning.core.learners.base import build_learner
    from learning.core.policies.base import load_policy
    from learning.management.commands.seed_learner import BASE_POLICY
    from learning.services.recipes import DEFAULT_RECIPE, decode_recipe

    recipe = decode_recipe(DEFAULT_RECIPE)
    policy = load_policy(BASE_POLICY.read_bytes())
    learner = build_learner(Learner().algorithm, policy, recipe.learner)
    assert learner.policy.config == policy.config
    assert policy.config.cameras


@pytest.mark.django_db(transaction=True)
def test_a_learner_runs_its_rounds_without_a_worker(robot, task, capsys):
    from tests.learning.brains import make_learner
    from tests.learning.making import record, send

    send(record(None, task, purpose="demonstration", policy_number=None, seed=1), None)
    learner = make_learner()
    call_command("run_learner", learner.name, rounds=2, seconds=0.5)
    learner.refresh_from_db()
    assert (learner.rounds, learner.lease_holder) == (2, "")
    assert learner.checkpoint_step == learner.step > 0
    assert "round 2" in capsys.readouterr().out
    with pytest.raises(CommandError, match="nobody"):
        call_command("run_learner", "nobody", rounds=1)
