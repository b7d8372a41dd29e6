# Needs make and Python 3.11 or newer; everything else is installed into .venv from the lock files.
# Settings (PORT, HOST, DEMO, OPSCHAT_…: see .env.example) come from the environment or as arguments: `make run PORT=9000`.
# None has a default here, so that none can hide the environment's.

PYTHON := $(or $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done),python3)
BOOTSTRAP := $(PYTHON) scripts/bootstrap.py
PYTEST := $(BOOTSTRAP) --dev -- -m pytest
# Left by `make test` to SQLite.
ON_POSTGRES := tests/browser tests/process tests/test_admin_lists.py tests/test_backup.py
# More than there may be cores: tests wait for servers and browsers.
TOGETHER := --numprocesses=4 --dist=loadfile --no-loadscope-reorder

.PHONY: help run test test-long lint bench bench-exports manage lock

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1	/p' Makefile

run: ## Start opschat on http://127.0.0.1:8000; ARGS="--server uvicorn" chooses the other server
	@exec $(BOOTSTRAP) -- manage.py serve $(value ARGS)

test: ## Run the tests, on SQLite and on PostgreSQL; ARGS go to pytest
	@$(BOOTSTRAP) --dev -- -m tests.browser.chromium
	@OPSCHAT_TEST_DB=sqlite $(PYTEST) $(TOGETHER) $(value ARGS)
	@OPSCHAT_TEST_DB=postgres $(PYTEST) $(TOGETHER) $(value ARGS)

test-long: ## Run what takes long, the fault tests, and every browser and process test on PostgreSQL: up to 45 minutes; ARGS go to pytest
	@$(BOOTSTRAP) --dev -- -m tests.browser.chromium
	@OPSCHAT_TEST_DB=sqlite OPSCHAT_TEST_ALL=1 $(PYTEST) $(or $(value ARGS),tests/long)
	@$(if $(value ARGS),,OPSCHAT_TEST_DB=sqlite OPSCHAT_TEST_ALL=1 $(PYTEST) $(TOGETHER) -m whole tests)
	@$(if $(value ARGS),,OPSCHAT_TEST_DB=postgres OPSCHAT_TEST_ALL=1 $(PYTEST) $(TOGETHER) $(ON_POSTGRES))

lint: ## Run all checks that need no test
	@exec $(BOOTSTRAP) --dev -- scripts/lint.py

bench: ## Measure it beside the baseline (about 8 minutes); ARGS="--full" takes its time
	@exec $(BOOTSTRAP) --dev -- -m bench $(value ARGS)

bench-exports: ## Measure exports and downloads (5 minutes with ARGS="--rows 200000", longer without)
	@exec $(BOOTSTRAP) --dev -- -m bench.exports $(value ARGS)

manage: ## Run a management command: make manage ARGS="create_token alice"
	@exec $(BOOTSTRAP) -- manage.py $(value ARGS)

lock: ## Choose the newest allowed versions anew (needs uv)
	@uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-header \
		--extra s3 --extra uvicorn --extra scale pyproject.toml -o requirements.lock
	@uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-header \
		--extra s3 --extra uvicorn --extra scale --group dev pyproject.toml -c requirements.lock -o requirements-dev.lock
