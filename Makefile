# Two commands do all the set-up: `make demo` and `make test`.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
DEMO := demo
CORPUS ?=

.PHONY: demo test lint types imports install browser bench clean

demo: install
	$(BIN)/tagloom demo --out $(DEMO) $(if $(CORPUS),--corpus "$(CORPUS)")

# What starts Ray or servers wants the machine for itself; the rest shares it, a file a process.
test: install browser
	$(BIN)/python -m pytest tests/contract tests/pages tests/unit -n 2 --dist loadfile
	$(BIN)/python -m pytest tests/parity tests/e2e tests/faults

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install
	$(BIN)/mypy

imports: install
	$(BIN)/lint-imports

install: $(VENV)/installed

# In one resolution: a second pip install could move what the first one chose.
$(VENV)/installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || python3 -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[cpu,dev]'
	touch $@

# The pages are tested in a real Chromium; where apt-get may install it, it does.
browser:
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null \
		|| command -v google-chrome >/dev/null \
		|| { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null \
			&& apt-get update -qq && apt-get install -y -qq chromium >/dev/null; } \
		|| echo "no chromium here: the tests of the pages will be skipped"

clean:
	rm -rf $(VENV) $(DEMO)
