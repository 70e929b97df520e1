# `make help` lists the targets; each sets up what it needs in .venv first.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
EXTRAS := server,torch,onnx,export,training,offline,ray

.DEFAULT_GOAL := help
.PHONY: serve test demo bench bench-peers check audit proto format install help clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

install: $(READY) ## the environment in .venv, versions pinned by constraints.txt

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("Tureen needs Python >= 3.11; this is " + sys.version.split()[0] + ". Try: make PYTHON=python3.12 ...") if sys.version_info < (3, 11) else None'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[$(EXTRAS)]' --group dev
	touch $@

serve: $(READY) ## serve grounded-qa on http 8080 and grpc 8081 (ARGS='--http-port 9000 ...')
	$(BIN)/tureen serve grounded-qa $(ARGS)

test: $(READY) ## every test that needs no GPU (ARGS='-k name')
	$(BIN)/python -m pytest $(ARGS)

demo: $(READY) ## the whole loop, SFT to PPO against a server, in runs/demo (ARGS='--steps 20 ...')
	MALLOC_MMAP_THRESHOLD_=2147483648 MALLOC_TRIM_THRESHOLD_=4294967296 \
	  $(BIN)/tureen-train demo loop --out runs/demo $(ARGS)

bench: $(READY) ## the serving benchmark with its controls; the last line is JSON (ARGS='--quick')
	@PYTHONPATH=tests $(BIN)/python -m bench.serving $(ARGS)

bench-peers: $(VENV)-infinity/.ready ## infinity-emb in .venv-infinity, for `make bench` to compare with

check: $(READY) $(VENV)-proto/.ready ## ruff, pyright, import-linter, generated protobuf up to date
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(BIN)/python -m pip check
	@rm -rf build/proto && mkdir -p build/proto && $(call protoc,build/proto)
	@for f in build/proto/tureen/v1/*; do cmp $$f service/tureen/v1/$$(basename $$f) || \
	  { echo "service/tureen/v1 is stale: run 'make proto' and commit the result"; exit 1; }; done

# --strict: a dependency that cannot be looked up is an error and not one without vulnerabilities.
audit: $(VENV)-audit/.ready ## known vulnerabilities of what constraints.txt pins; fails when it cannot find out
	$(VENV)-audit/bin/pip-audit --strict --requirement constraints.txt --no-deps --disable-pip \
	  --progress-spinner off

proto: $(VENV)-proto/.ready ## regenerate service/tureen/v1 from proto/
	$(call protoc,service)

format: $(READY) ## format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## remove the environments and build products
	rm -rf $(VENV) $(VENV)-audit $(VENV)-proto $(VENV)-infinity build dist

# The oldest supported generator: its output runs with every later grpcio and protobuf. It lives in an
# environment of its own because it needs an older protobuf than the server runs.
$(VENV)-proto/.ready:
	$(PYTHON) -m venv $(VENV)-proto
	$(VENV)-proto/bin/python -m pip install --quiet 'grpcio-tools==1.66.2' 'setuptools<81'
	touch $@

# Peers of the benchmark pin other versions of what we run on.
$(VENV)-infinity/.ready:
	$(PYTHON) -m venv $(VENV)-infinity
	$(VENV)-infinity/bin/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(VENV)-infinity/bin/python -m pip install --quiet 'infinity-emb[torch,server]==0.0.78' 'torch==2.13.0'
	touch $@

$(VENV)-audit/.ready:
	$(PYTHON) -m venv $(VENV)-audit
	$(VENV)-audit/bin/python -m pip install --quiet 'pip-audit==2.10.1'
	touch $@

define protoc
$(VENV)-proto/bin/python -m grpc_tools.protoc -I proto --python_out=$(1) --grpc_python_out=$(1) --pyi_out=$(1) proto/tureen/v1/reward.proto
endef
