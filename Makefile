# Two commands do everything on a fresh machine with python3: `make demo` and `make test`.
PY := .venv/bin/python
JOBS ?= 2

.PHONY: demo test lint types imports check bench docs lock clean setup compose-test

setup:
	@tools/setup

demo: setup
	@$(PY) tools/demo.py

test: setup
	$(PY) -m pytest -n $(JOBS) -q --ignore=tests/real --ignore=tests/compose

lint: setup
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

types: setup
	$(PY) -m mypy

imports: setup
	.venv/bin/lint-imports

check: test lint types imports

# Builds and runs the stack of docker-compose.yml; as root.
compose-test: setup
	tools/compose-test

bench: setup
	$(PY) bench/run.py

docs: setup
	$(PY) tools/gendocs.py

# Pin what pyproject.toml asks for; needs uv (pip install uv).
lock:
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --group dev pyproject.toml --all-extras -o requirements-dev.lock --quiet

clean:
	rm -rf .venv midstream-out .pytest_cache .mypy_cache .ruff_cache .hypothesis dist build
