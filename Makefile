# Each target makes the venv that it needs, from a Python >= 3.11 with venv and pip; a second run is quick.
# demo, check, bench and docs run on the oldest Python of this machine, or on the one given: make check PYTHON=3.13

# Asked once, of the outermost make: each Python is started for it.
VERSIONS := $(or $(if $(filter-out 0,$(MAKELEVEL)),$(VERSIONS)),$(shell scripts/pythons | cut -d ' ' -f 1))
export VERSIONS
PYTHON = $(or $(firstword $(VERSIONS)),$(error found no Python >= 3.11 that has venv and ensurepip))

# $(call python,3.11) is the path of that Python. $(call venv,3.11,test,-e .) makes the venv of the target's name: a
# dependency group of pyproject.toml, and what else pip gets. The pip that a Python brings may be too old for groups.
python = $(or $(shell scripts/pythons | sed -n 's/^$(1) //p'),$(error found no Python $(1); scripts/pythons lists what there is))
define venv
	@printf '\n== %s: Python %s, %s\n' '$(@D)' '$(1)' "$(3)$(2:%=, group %)"
	@'$(call python,$(1))' -m venv --clear $(@D)
	$(if $(2),@$(pip) 'pip>=25.1')
	@$(pip) $(3) $(2:%=--group %)
	@touch $@
endef
pip = $(@D)/bin/python -m pip install -q --disable-pip-version-check
EXTRAS = [agents,arrow,aws,dask,gcp,notify,otel,postgres,ray,scheduler,ui]
heading = @printf '\n== %s\n'

oldest = $(firstword $(VERSIONS))
newest = $(lastword $(VERSIONS))
# The longest begin first. `make test` runs each test once, but for those marked `exhaustive`: units on the oldest Python,
# as `check` does, the others on the newest. Coroutines and what depends on how worker processes start run once more on
# the oldest, with the fork server. `make test-all` runs every test on every Python, each night.
SUITES = test-newest test-oldest test-dask test-browser dist docs
ALL_SUITES = $(VERSIONS:%=test-%) test-ray test-dask test-dask-runs test-forkserver

.PHONY: help demo test test-all test-newest test-oldest test-browser test-forkserver test-dask test-ray check dist extras bench comparison docs clean
.SECONDARY:  # keeps the venvs, which only a pattern names

help:  ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## /make \1	/p' Makefile

demo: .venv/demo/.ready  ## Run the weather pipeline of examples/
	@.venv/demo/bin/python examples/weather/pipeline.py

check: check-format  ## Lint, format, types, workflows and the unit tests: under a minute
	@$(at_once) $(CHECKS)

.PHONY: check-format check-mypy check-pyright check-units
CHECKS = check-units check-pyright check-mypy
check-format: .venv/check/.ready
	$(heading) 'ruff check'
	@.venv/check/bin/ruff check
	$(heading) 'ruff format'
	@.venv/check/bin/ruff format --check
	$(heading) 'zizmor, on the workflows of the forge'
	@test ! -d .github || .venv/check/bin/zizmor --offline --quiet .github
	$(heading) 'changelog fragments'
	@draft=$$(.venv/check/bin/towncrier build --draft 2>&1) || { echo "$$draft"; exit 1; }
check-mypy: .venv/check/.ready
	$(heading) 'mypy --strict'
	@.venv/check/bin/mypy --strict
check-pyright: .venv/check/.ready
	$(heading) 'pyright, strict'
	@.venv/check/bin/basedpyright --pythonpath .venv/check/bin/python
check-units: .venv/check/.ready
	$(heading) 'unit tests'
	@.venv/check/bin/pytest --no-header tests/unit -n 2

# Two suites run at a time, or as many as given: make test AT_ONCE=3. This fills two cores, and one more makes all of them
# late. make shows the output of a suite at its end.
AT_ONCE = 2
at_once = $(MAKE) --no-print-directory -j$(AT_ONCE) --output-sync=target

# The tests start Python a thousand times. Without bytecode, each of these would compile dotflow again, and each pytest
# all tests; `make test` compiles them once, since four processes begin at the same time.
export PYTHONDONTWRITEBYTECODE =
compile = @.venv/$(1)/bin/python -m compileall -q src

test:  ## All of check, most promises once, some on a second Python, dist and docs: under five minutes
	@$(MAKE) --no-print-directory -j2 $(patsubst %,.venv/%/.ready,check docs $(sort $(oldest) $(newest)))
	$(call compile,$(oldest))
	$(call compile,$(newest))
	@$(MAKE) --no-print-directory check-format
	$(heading) '$(AT_ONCE) suites at a time, each shown when it has ended: $(CHECKS) $(SUITES)'
	@$(at_once) check-units compile-tests check-pyright check-mypy $(SUITES) BUILD=--no-isolation FEWER='$(INSIDE)'

.PHONY: compile-tests
compile-tests: .venv/$(newest)/.ready
	@found=$$(.venv/$(newest)/bin/pytest --collect-only -qq tests 2>&1) || { echo "$$found"; exit 1; }

test-all: check dist docs  ## Every test on every Python, start method, cluster, and the lowest dependencies: half an hour
	@$(MAKE) --no-print-directory -j2 $(VERSIONS:%=.venv/%/.ready)
	$(heading) '$(AT_ONCE) suites at a time, each shown when it has ended: $(ALL_SUITES)'
	@$(at_once) $(ALL_SUITES) EXHAUSTIVE=--exhaustive

pytest = .venv/$(1)/bin/pytest --no-header --durations=20 --durations-min=1 $(EXHAUSTIVE)

test-3.%: .venv/3.%/.ready
	$(heading) 'Python 3.$*: every test'
	$(call compile,3.$*)
	@$(call pytest,3.$*) tests -m 'not clusters' --exhaustive

# The executors' contract has the fork server on the oldest.
test-newest: .venv/$(newest)/.ready
	$(heading) 'Python $(newest): every test but the units'
	@$(call pytest,$(newest)) tests/contract tests/integration tests/acceptance tests/security -m 'not clusters' \
		-k 'not (test_executors and forkserver)' -n 4 --dist loadgroup

# Whole runs, storages, servers, documents and the graph are the same on every Python, and so are threads. What depends on
# how worker processes start is marked; coroutines depend on the Python.
ON_OLDEST = $(patsubst %,tests/integration/test_%.py,processes timeouts signals) -m 'start_method and not clusters'
EXECUTORS_ON_OLDEST = tests/contract/test_executors.py -m 'not clusters' -k 'forkserver or async or Async'
WITHOUT_SERVERS = -m 'not clusters' -k 'not s3 and not gcs and not postgres and not clouds'
test-oldest: .venv/$(oldest)/.ready
	$(heading) 'Python $(oldest): executors, and processes, timeouts and signals, with forkserver'
	@$(call pytest,$(oldest)) $(EXECUTORS_ON_OLDEST)
	@$(call pytest,$(oldest)) $(ON_OLDEST) --start-method forkserver

# As root the machines are network namespaces, else two proxies.
.PHONY: test-machines
ALL_SUITES += test-machines
test-machines: .venv/$(newest)/.ready  ## Kill, freeze and cut off two machines with one Postgres: ten minutes
	$(heading) 'Python $(newest): two machines, 1,000 runs, 40 kills, and 8,000 claims of four processes'
	@.venv/$(newest)/bin/python tests/machines_table.py
	@.venv/$(newest)/bin/python tests/machines_table.py claims

test-browser: .venv/$(newest)/.ready
	$(heading) 'Python $(newest): the page of a run in a browser'
	@$(call pytest,$(newest)) tests/browser

# Root plays two users; without root, these tests are skipped.
.PHONY: test-users
test-users: .venv/$(newest)/.ready
	@$(call pytest,$(newest)) tests/security/test_files.py

# Its dependencies are older than those of any other venv. Pydantic AI needs a newer Pydantic.
.PHONY: test-lowest
ALL_SUITES += test-lowest
test-lowest: .venv/lowest/.ready
	$(heading) 'Python $(oldest), the lowest versions that pyproject.toml allows: units, contracts without servers, commands'
	@.venv/lowest/bin/pytest --no-header tests/unit tests/contract tests/integration/test_cli_*.py \
		tests/acceptance/test_packaging.py::test_an_extra_is_enough_for_its_purpose --deselect \
		'tests/acceptance/test_packaging.py::test_an_extra_is_enough_for_its_purpose[agents]' \
		$(WITHOUT_SERVERS)

test-forkserver: .venv/$(PYTHON)/.ready
	$(heading) 'Python $(PYTHON): what depends on how worker processes start, with forkserver'
	@$(call pytest,$(PYTHON)) tests/integration -m start_method --start-method forkserver

# What happens inside of an attempt is the same in the processes of this machine, where `make test` looks at it.
INSIDE = and not (TestFailures or TestTimeouts or TestCoroutines or TestClassSteps or TestIsolate)
# The tests of clusters: Dask on the newest Python, which refuses workers on the oldest, and Ray on the oldest; for
# test-all also whole runs with every step on the cluster.
WITH_CLUSTERS = $(shell grep -rl --include=test_*.py 'mark\.clusters' tests)
ON_CLUSTERS = $(patsubst %,tests/integration/test_%.py,runs graph maps nests rounds cache) -m processes
test-dask: .venv/$(newest)/.ready .venv/$(oldest)/.ready
	$(heading) 'Python $(newest): on a Dask cluster'
	@$(call pytest,$(newest)) $(WITH_CLUSTERS) -m clusters -k '(dask or Dask) $(FEWER)'
.PHONY: test-dask-runs
test-dask-runs: .venv/$(newest)/.ready
	$(heading) 'Python $(newest): whole runs on a Dask cluster'
	@$(call pytest,$(newest)) $(ON_CLUSTERS) --cluster dask --timeout 120
test-ray: .venv/$(PYTHON)/.ready
	$(heading) 'Python $(PYTHON): on a Ray cluster'
	@$(call pytest,$(PYTHON)) $(WITH_CLUSTERS) -m clusters -k 'not dask and not Dask'
	@$(call pytest,$(PYTHON)) $(ON_CLUSTERS) --cluster ray --timeout 120

dist: .venv/check/.ready  ## Build the wheel and the sdist into dist/, and check them
	$(heading) 'wheel and sdist'
	@rm -rf dist
	@.venv/check/bin/python -m build --quiet $(BUILD)
	@.venv/check/bin/twine --no-color check --strict dist/*
	@.venv/check/bin/check-wheel-contents dist/*.whl

.PHONY: test-wheel
test-wheel: .venv/wheel/.ready  ## Test the wheel that is in dist/, without building it
	$(heading) 'Python $(PYTHON), the wheel: the demo, units, contracts without servers'
	@.venv/wheel/bin/python examples/weather/pipeline.py
	@.venv/wheel/bin/pytest --no-header tests/unit tests/contract $(WITHOUT_SERVERS)

extras: dist  ## Install the wheel with each extra on each Python, into new environments: minutes
	@.venv/check/bin/python tests/extras_table.py dist/*.whl

# Five tests fail here: they check what a process imports or keeps open. Not measured are processes that are killed or
# run with -I, and lines after sys.settrace, which coverage.py uses itself.
.PHONY: coverage
coverage: .venv/$(newest)/.ready  ## Measure which lines and branches the tests run: eight minutes
	@rm -f .coverage .coverage.*
	-@.venv/$(newest)/bin/coverage run -m pytest --no-header tests/unit tests/contract tests/integration $(WITHOUT_SERVERS) -n 2
	@.venv/$(newest)/bin/coverage combine -q 2>/dev/null
	@rm -f .coverage.*  # of processes that were killed while they wrote
	@.venv/$(newest)/bin/coverage report

bench: .venv/bench/.ready  ## Measure dotflow beside its alternatives
	@.venv/bench/bin/python benchmarks/run.py

.PHONY: bench-goals
bench-goals: .venv/bench/.ready  ## Measure the rows that have a goal, and write them into benchmarks/README.md: under ten minutes
	@.venv/bench/bin/python benchmarks/run.py --goals --readme

comparison:  ## Install other libraries, each in a venv of its own, and compare them with dotflow: twenty minutes
	@'$(call python,$(newest))' benchmarks/comparison.py

.PHONY: agent-edits
agent-edits:  ## Install engines with durable functions, and edit an agent that was killed: twenty minutes
	@'$(call python,$(newest))' benchmarks/agent_edits.py

.PHONY: screenshots
screenshots: .venv/$(newest)/.ready  ## Take the pictures of the README and the documentation, with Chromium
	@.venv/$(newest)/bin/python scripts/screenshots/take.py

.PHONY: programs
programs:  ## Put the programs of docs_src/ into the pages of docs/
	@'$(call python,$(oldest))' scripts/programs

docs: .venv/docs/.ready  ## Build the documentation into site/
	@NO_MKDOCS_2_WARNING=1 .venv/docs/bin/mkdocs build --strict
	@.venv/docs/bin/python scripts/one_file site
	@echo 'The documentation is in site/index.html, and as one Markdown file in site/dotflow.md.'

.PHONY: changelog
changelog: .venv/check/.ready  ## Print the next release's changes. VERSION=0.2.0 writes them into CHANGELOG.md, and the version
ifdef VERSION
	@sed -i.old 's/^__version__ = .*/__version__ = "$(VERSION)"/' src/dotflow/__init__.py && rm src/dotflow/__init__.py.old
	@.venv/check/bin/towncrier build --yes
else
	@.venv/check/bin/towncrier build --draft
endif

clean:  ## Remove all that the other targets made
	rm -rf .venv .coverage* site build dist examples/weather/output .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A venv knows the version that it was made with, which stands in __init__.py.
METADATA = pyproject.toml src/dotflow/__init__.py
.venv/3.%/.ready: $(METADATA)
	$(call venv,3.$*,test,-e '.$(EXTRAS)')
.venv/lowest/.ready: $(METADATA) scripts/lowest
	@mkdir -p .venv && '$(call python,$(oldest))' scripts/lowest >.venv/lowest.txt
	$(call venv,$(oldest),test,-e '.$(EXTRAS:[agents,%=[%)' -c .venv/lowest.txt)
.venv/wheel/.ready: $(wildcard dist/*.whl)
	$(call venv,$(PYTHON),test,'$(or $<,$(error found no wheel in dist; make dist builds it))$(EXTRAS)')
.venv/check/.ready: $(METADATA)
	$(call venv,$(PYTHON),check,-e '.$(EXTRAS)')
.venv/demo/.ready: $(METADATA)
	$(call venv,$(PYTHON),,-e .)
.venv/bench/.ready: $(METADATA)
	$(call venv,$(PYTHON),bench,-e '.$(EXTRAS)')
.venv/docs/.ready: $(METADATA)
	$(call venv,$(PYTHON),docs,-e '.[agents]')
