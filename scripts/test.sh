#!/usr/bin/env bash
# Every test: Python on SQLite, first single parts and then whole systems; JavaScript under node; and
# whatever goes through the database, row locks above all, again on a private PostgreSQL. All run
# even when one fails; any failure is the exit status.
# Arguments go to the first pytest run: make test ARGS='tests/agent -x'
set -uo pipefail
cd "$(dirname "$0")/.."

python=.venv/bin/python
export MUJOCO_GL=osmesa PYOPENGL_PLATFORM=osmesa OMP_NUM_THREADS=1
# Nothing of the caller's installation may reach the tests.
unset DATABASE_URL REDIS_URL SOP_VAR SOP_STORE_URL SOP_PRODUCTION DEBUG

failed=()
part() {
    local name=$1 started=$SECONDS
    shift
    printf '\n==== %s\n' "$name"
    "$@" || failed+=("$name")
    printf '==== %s: %d s\n' "$name" $((SECONDS - started))
}

if [ $# -gt 0 ]; then
    part "pytest, SQLite" "$python" -m pytest --durations=15 "$@"
else
    # Whole systems and browsers have the machine to themselves; tests of single parts share it.
    part "pytest, parts" "$python" -m pytest --durations=15 -n 2 --dist loadfile \
        --ignore tests/integration --ignore tests/e2e
    # Browser tests share one running fleet, so they come in the order of their files.
    part "pytest, systems" "$python" -m pytest --durations=15 -p no:randomly \
        tests/integration tests/e2e
    compgen -G 'tests/js/*.test.*js' >/dev/null &&
        part "JavaScript" node --test tests/js/
    # What claims, locks or constrains rows; pages and sockets say nothing new on PostgreSQL, and a
    # socket test there takes as long as a file here.
    part "pytest, PostgreSQL" scripts/with_postgres.sh "$python" -m pytest -n 2 --dist loadfile \
        tests/fleet/test_services.py tests/fleet/test_help_services.py \
        tests/learning/test_closed_seq.py tests/learning/test_constraints.py \
        tests/learning/test_desk_claims.py \
        tests/learning/test_episode_search.py::test_every_filter_finds_what_it_names \
        tests/learning/test_episode_search.py::test_pages_stay_put_while_new_episodes_arrive \
        tests/learning/test_episode_search.py::test_the_kept_judgement_is_what_a_recount_of_the_labels_says \
        tests/learning/test_evaluations.py::test_two_processes_that_advance_at_once_hand_out_no_trial_and_no_robot_twice \
        tests/learning/test_evaluations.py::test_a_robot_that_is_deleted_loses_its_trials \
        tests/learning/test_evaluations.py::test_what_cannot_be_evaluated_is_refused_in_words_and_not_stored \
        tests/learning/test_evaluations.py::test_pairs_on_the_same_seeds_give_the_exact_comparison \
        tests/learning/test_ingest.py \
        tests/learning/test_canaries.py \
        tests/learning/test_leases.py tests/learning/test_publish.py \
        tests/learning/test_dashboards.py::test_counts_are_exact_when_many_close_and_judge_at_once \
        tests/learning/test_rebuilds.py tests/learning/test_rollouts.py \
        tests/learning/test_rounds.py tests/learning/test_tasks.py tests/learning/test_text_indexes.py \
        tests/integration/test_ingest_crashes.py tests/integration/test_publish_crashes.py
fi

if [ ${#failed[@]} -gt 0 ]; then
    printf '\nfailed: %s\n' "${failed[*]}" >&2
    exit 1
fi
printf '\nall passed in %d s\n' "$SECONDS"
