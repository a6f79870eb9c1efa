# The one face of the repository: people and continuous integration type the same words.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
ARGS   ?=
JMAPLIB := .clients/jmaplib
AGAIN  := tests/again.sh
# a registry that does not answer for a moment is asked again
export PIP_RETRIES ?= 10

.PHONY: run test clients chaos unit coverage conformance check format lock bench image manifest clean

run: $(VENV)/.run  ## start the whole server on 127.0.0.1 (ARGS="--data-dir DIR --ports free")
	@exec $(BIN)/mailserver dev $(ARGS)

test: $(VENV)/.dev $(JMAPLIB)/.done  ## every test; installs the client programs some tests drive
	@tests/clients.sh
	$(BIN)/pytest -m "not clients_heavy" $(ARGS)

clients: $(VENV)/.dev  ## every mail program that tests drive, also the large ones
	@tests/clients.sh heavy
	$(BIN)/pytest tests/integration/clients $(ARGS)

unit: $(VENV)/.dev  ## the tests that need no service: seconds
	$(BIN)/pytest tests/unit $(ARGS)

coverage: $(VENV)/.dev  ## the unit tests take every branch of the pure IMAP code
	$(BIN)/coverage run --source=mailserver/imap/protocol -m pytest tests/unit/imap \
	    --hypothesis-seed=0 $(ARGS)
	$(BIN)/coverage report --show-missing --skip-covered --fail-under=100

conformance: $(VENV)/.dev $(JMAPLIB)/.done  ## the suites of others; docs/develop.md says what to set
	$(BIN)/pytest tests/conformance $(ARGS)

check: $(VENV)/.dev  ## lint, format, types, layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

chaos: $(VENV)/.dev  ## two nodes under load for half an hour while everything around them breaks
	CHAOS_SECONDS=$${CHAOS_SECONDS:-1800} $(BIN)/pytest -s tests/integration/faults/test_chaos.py $(ARGS)

bench: $(VENV)/.dev  ## every benchmark; JSON on standard output
	$(BIN)/python -m benchmarks $(ARGS)

image:  ## the container image, with docker, podman or buildah (ARGS="--platform linux/arm64")
	@for tool in docker "podman --format=docker" "buildah --format=docker"; do \
	    set -- $$tool; if command -v $$1 >/dev/null; then exec $$1 build $$2 -t mailserver:latest \
	        --build-arg REVISION=$$(git rev-parse HEAD 2>/dev/null) $(ARGS) .; fi; \
	done; echo "make image: needs docker, podman or buildah" >&2; exit 1

manifest: $(VENV)/.dev  ## deploy/manifest.yaml from the chart; needs Helm (tests/clients.sh)
	$(BIN)/python -m tests.unit.deploy.charts

lock:  ## pin every dependency with its hashes (needs uv)
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	    --no-emit-find-links --no-annotate --quiet --custom-compile-command "make lock" \
	    --extra embedded --extra filter --extra tracing --group build pyproject.toml -o requirements.lock
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	    --no-emit-find-links --no-annotate --quiet --custom-compile-command "make lock" \
	    --extra embedded --extra filter --extra tracing --group build --group dev \
	    -c requirements.lock pyproject.toml \
	    -o requirements-dev.lock
	echo "jmaplib[push,ws]==3.0.1\npytest\npytest-asyncio" | uv pip compile --universal \
	    --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
	    --no-annotate --quiet --custom-compile-command "make lock" - \
	    -o tests/conformance/jmaplib.lock

clean:
	rm -rf $(VENV) .clients .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage

# pip comes last: an environment without it was not finished.
$(VENV)/bin/pip:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: $(VENV)/bin/pip requirements.lock pyproject.toml
	$(AGAIN) $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes \
	    -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.run requirements-dev.lock
	$(AGAIN) $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes \
	    -r requirements-dev.lock
	@touch $@

# A JMAP client whose sdist has live tests: in an environment of its own, for it is only run.
$(JMAPLIB)/.done: tests/conformance/jmaplib.lock
	rm -rf $(JMAPLIB)
	$(PYTHON) -m venv $(JMAPLIB)
	$(AGAIN) $(JMAPLIB)/bin/python -m pip install --quiet --disable-pip-version-check \
	    --require-hashes -r $<
	sed -n '/^jmaplib==/,/[^\\]$$/p' $< >$(JMAPLIB)/sdist.txt
	$(AGAIN) $(JMAPLIB)/bin/python -m pip download --quiet --disable-pip-version-check --no-deps \
	    --no-binary jmaplib --require-hashes -r $(JMAPLIB)/sdist.txt -d $(JMAPLIB)
	tar -xzf $(JMAPLIB)/jmaplib-*.tar.gz -C $(JMAPLIB) --strip-components=1 --wildcards '*/tests' \
	    '*/pyproject.toml'
	@touch $@
