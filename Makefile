# The two commands that matter: `make run` and `make test`. `make help` lists the rest.
PORT ?= 8000
ROBOTS ?= 4
OPERATORS ?= 1
TASKS ?=
VAR ?= var
NAME ?= loop
ARGS ?=
PYTHON ?=
export PYTHON

py := .venv/bin/python
# MuJoCo reads these on import; one thread per process keeps two cores from fighting (ADR 7).
export MUJOCO_GL := osmesa
export PYOPENGL_PLATFORM := osmesa
export OMP_NUM_THREADS := 1
# Nine processes import torch: what one compiled, the others read, whatever the shell prefers.
export PYTHONDONTWRITEBYTECODE :=

# Catalogs are read and merged by people: no line numbers, one string a line, nothing left behind.
gathering := --no-location --no-wrap --no-obsolete -i .venv -i var -i tests -i scripts -i docs

.DEFAULT_GOAL := help
.PHONY: help run test check words bench experiment clean setup setup-dev

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "  variables of run: ROBOTS=$(ROBOTS) OPERATORS=$(OPERATORS) TASKS=a,b PORT=$(PORT) VAR=$(VAR)"

setup:
	@scripts/bootstrap.sh run

setup-dev:
	@scripts/bootstrap.sh dev

run: setup ## set everything up and start the whole system with simulated robots; Ctrl-C stops it
	@exec $(py) scripts/run.py --var "$(VAR)" --port "$(PORT)" --robots "$(ROBOTS)" \
		--operators "$(OPERATORS)" --tasks "$(TASKS)"

test: setup-dev ## every test; those of the two apps again on PostgreSQL
	@exec scripts/test.sh $(ARGS)

check: setup-dev ## ruff, mypy, import contracts, migrations, Django's deploy checks
	$(py) -m ruff check .
	$(py) -m ruff format --check .
	$(py) -m mypy
	.venv/bin/lint-imports --no-cache
	$(py) manage.py makemigrations --check --dry-run
	SECRET_KEY=$$($(py) -c 'import secrets; print(secrets.token_urlsafe(64))') SOP_PRODUCTION=1 \
		ALLOWED_HOSTS=console.example REDIS_URL=rediss://redis.example \
		DATABASE_URL=postgresql://postgres.example/sop SOP_VAR=var/check \
		$(py) manage.py check --deploy --fail-level WARNING

words: setup-dev ## gather the strings of the sources into locale/ and compile what is translated
	$(py) manage.py makemessages --all $(gathering) -e html,txt,py -i static
	$(py) manage.py makemessages --all $(gathering) -d djangojs -i vendor
	@# The time of day is no change, and would be a conflict in every merge.
	sed -i '/^"POT-Creation-Date/d' locale/*/LC_MESSAGES/*.po
	$(py) manage.py compilemessages -i .venv -i var

bench: setup-dev ## measure this machine; table, var/bench.json, and one line of JSON
	@exec $(py) -m tests.bench $(ARGS)

experiment: setup-dev ## NAME=loop|arms|recap|scaling|pretraining|sampler|hg_dagger|soak: run one, end in one line of JSON
	@exec $(py) -m learning.experiments.$(NAME) $(ARGS)

clean: ## remove what was installed and generated, but not VAR
	rm -rf .venv staticfiles .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
