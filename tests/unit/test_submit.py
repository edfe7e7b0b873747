"""What `tagloom submit` checks before anything is sent, and how it tells a job's log."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from importlib import metadata
from pathlib import Path
from typing import cast

import pytest
import typer
from ray.job_submission import JobSubmissionClient
from typer.core import TyperCommand, TyperGroup

from engine.errors import ConfigError
from jobs.__main__ import app
from jobs.pins import installed, pinned, requirement_lines, variables
from jobs.submit import Log, follow_log, interrupts
from jobs.submit_command import check_job, check_places

PROGRAM = typer.main.get_command(app)
ANNOTATE = ["annotate", "--input", "/in", "--bundle", "/b", "--output", "/out"]


def _jobs(program: object, path: tuple[str, ...] = ()) -> Iterator[tuple[str, TyperCommand]]:
    if isinstance(program, TyperGroup):
        for name, command in program.commands.items():
            yield from _jobs(command, (*path, name))
    elif isinstance(program, TyperCommand):
        yield " ".join(path), program


def test_no_job_has_an_option_that_submit_takes_for_itself() -> None:
    jobs = dict(_jobs(PROGRAM))
    own = {word for parameter in jobs.pop("submit").params for word in parameter.opts}
    assert "--address" in own
    for name, job in jobs.items():
        assert not own & {word for parameter in job.params for word in parameter.opts}, name


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["annotate", "--inptu", "/in"], "No such option: --inptu .*'tagloom annotate --help'"),
        (["annotate", "--input", "/in"], "Missing option '--output'"),
        ([*ANNOTATE, "--workers", "0"], "Invalid value for '--workers'"),
        ([*ANNOTATE, "--workers", "two"], "Invalid value for '--workers'"),
        (["anotate"], "No such command 'anotate'"),
        (["index"], "'tagloom index' is several jobs"),
        (["index", "ad"], "No such command 'ad'.*'tagloom index --help'"),
        (["submit", "annotate"], "'submit' cannot be submitted"),
    ],
)
def test_what_the_program_would_not_run_is_not_sent(words: list[str], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        check_job(PROGRAM, words)


def test_paths_are_found_in_a_jobs_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["annotate", "--input", "s3://in", "--output", "out", "--bundle", "imagenet"]
    assert check_job(PROGRAM, [*words, "--vocabulary", "rules.toml"]) == [
        ("--input", "s3://in"),
        ("--output", "out"),
        ("--vocabulary", "rules.toml"),
    ]
    (tmp_path / "imagenet").mkdir()
    monkeypatch.chdir(tmp_path)
    assert ("--bundle", "imagenet") in check_job(PROGRAM, words)
    words = ["table", "murthy2015", "--corpus", "a=/data/a", "--corpus", "b=b", "--out", "/out"]
    assert check_job(PROGRAM, words) == [
        ("--corpus", "/data/a"),
        ("--corpus", "b"),
        ("--out", "/out"),
    ]


@pytest.mark.parametrize(
    ("places", "told"),
    [
        ([("--output", "out")], "^--output out: .*which is removed later; give a whole path"),
        ([("--out", "./out")], "^--out ./out: .*which is removed later"),
        ([("--input", "in")], "^--input in: .*or a folder that holds it as --working-dir"),
    ],
)
def test_a_relative_path_is_another_place_on_the_cluster(
    places: list[tuple[str, str]], told: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=told):
        list(check_places(places, "http://127.0.0.1:8265", None))
    if "output" in told or "removed" in told:
        with pytest.raises(ConfigError, match=told):
            list(check_places(places, "http://127.0.0.1:8265", str(tmp_path)))


def test_a_relative_path_may_lie_in_the_working_directory(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    places = [("--input", "in"), ("--output", "s3://bucket/out")]
    assert list(check_places(places, "http://head:8265", str(tmp_path))) == []
    assert list(check_places(places, "http://head:8265", "s3://bucket/work.zip")) == []
    with pytest.raises(ConfigError, match=r"--config c.toml: .*no such file in --working-dir"):
        list(check_places([("--config", "c.toml")], "http://head:8265", str(tmp_path)))


def test_whole_paths_are_told_of_where_the_cluster_is_elsewhere() -> None:
    places = [("--input", "/in"), ("--bundle", "s3://b"), ("--output", "/out")]
    (note,) = check_places(places, "http://head:8265", None)
    assert (
        note == "all nodes of the cluster must see --input /in, --output /out under the same path"
    )
    for near in ("http://127.0.0.1:8265", "http://localhost:8265", "http://[::1]:8265"):
        assert list(check_places(places, near, None)) == []


def test_packages_are_of_one_version(tmp_path: Path) -> None:
    file = tmp_path / "requirements.txt"
    file.write_text(
        "# comment\n\n--index-url https://example.org/simple\nnumpy==2.4.6 # why\n"
        'pillow[x] == 13.0.0 ; python_version > "3" \\\n    --hash=sha256:00\n'
    )
    assert pinned(requirement_lines(file)) == [
        "--index-url https://example.org/simple",
        "numpy==2.4.6",
        'pillow[x] == 13.0.0 ; python_version > "3"      --hash=sha256:00',
    ]
    assert pinned(["a @ https://example.org/a.whl"]) == ["a @ https://example.org/a.whl"]
    for text in ("numpy", "numpy>=2", "numpy==2.*", "numpy~=2.4"):
        with pytest.raises(ConfigError, match="is not of one version; write NAME==VERSION"):
            pinned([text])
    with pytest.raises(ConfigError, match="is no package"):
        pinned(["numpy=2"])
    with pytest.raises(ConfigError, match=r"nowhere.txt: cannot be read"):
        requirement_lines(tmp_path / "nowhere.txt")


def test_what_is_installed_here_is_named_with_its_version() -> None:
    found = dict(line.split("==") for line in installed())
    assert pinned(installed()) == installed()
    assert found["pyarrow"] == metadata.version("pyarrow")
    # Not asked for by this program, but by what it asks for.
    assert found["markdown-it-py"] == metadata.version("markdown-it-py")
    assert not {"ray", "tagloom", "pytest"} & set(found)


def test_variables_are_given_or_taken_from_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HERE", "a secret")
    assert variables(["A=1=2", "B=", "HERE"]) == {"A": "1=2", "B": "", "HERE": "a secret"}
    with pytest.raises(ConfigError, match=r"^--env NOWHERE: is not set here"):
        variables(["NOWHERE"])
    with pytest.raises(ConfigError, match=r"^--env is written") as caught:
        variables(["my-secret=1"])
    assert "secret" not in str(caught.value)


async def _sent(*texts: str) -> AsyncIterator[str]:
    for text in texts:
        yield text


def test_a_log_that_is_sent_again_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    log = Log()
    asyncio.run(log.tell(_sent("Run", "ning\nwarn", "ing\n{not JSON\n")))
    asyncio.run(log.tell(_sent("Running\nwarning\n", '{not JSON\n{"rows": 1}\nla', "st")))
    log.end()
    said = capsys.readouterr()
    assert said.out == '{"rows": 1}\n'
    assert said.err == "Running\nwarning\n{not JSON\nlast\n"


def test_an_interrupt_that_comes_out_as_another_error_is_not_forgotten(interruptible: None) -> None:
    class Breaking:
        async def tail_job_logs(self, name: str) -> AsyncIterator[str]:
            try:
                os.kill(os.getpid(), signal.SIGINT)
                await asyncio.sleep(60)
                yield name
            finally:
                # As a connection may that is closed while it is broken off.
                raise RuntimeError("closed")

        def get_job_info(self, name: str) -> None:
            raise AssertionError("it was to end")

    with interrupts() as is_interrupted, pytest.raises(KeyboardInterrupt):
        follow_log(cast(JobSubmissionClient, Breaking()), "x", is_interrupted)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_interrupt_that_is_to_be_ignored_is(interruptible: None) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with interrupts() as is_interrupted:
        os.kill(os.getpid(), signal.SIGINT)
        assert not is_interrupted.wait(0.1)
