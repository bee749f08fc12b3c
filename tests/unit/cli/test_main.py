"""The command line as a whole: exit codes, one-line errors, and commands found by name."""

from __future__ import annotations

import json
import subprocess
import sys
import types
from pathlib import Path

import pytest

from gemma_operator import cli
from gemma_operator.errors import GemmaOperatorError, SandboxError, UsageError

OPERATOR = Path(cli.__file__).parents[2]
MEMORY = ("memory", "--variant", "31B", "--precision", "bf16", "--gpu", "nvidia-h100-80gb")


@pytest.fixture
def command(monkeypatch):
    """A command that does what the test says, in place of `version`."""

    def install(result):
        def run(args):
            if isinstance(result, BaseException):
                raise result
            return result

        module = types.SimpleNamespace(
            NAME="version", HELP="help", EPILOG="", add_arguments=lambda parser: None, run=run
        )
        monkeypatch.setattr(cli, "load", lambda name: module)

    return install


def test_version_as_json(capsys):
    assert cli.main(["version", "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["api"] == "gemma-operator.io/v1alpha1"


@pytest.mark.parametrize("code", [0, 1, 2])
def test_a_commands_exit_code_is_the_programs(command, code):
    command(code)
    assert cli.main(["version"]) == code


@pytest.mark.parametrize(
    ("error", "code"),
    [(UsageError("bad\n input"), 2), (GemmaOperatorError("went wrong"), 1), (SandboxError("no disk"), 1)],
)
def test_an_error_is_one_line_and_no_traceback(command, capsys, error, code):
    command(error)
    assert cli.main(["version"]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("gemma-operator: ")
    assert " ".join(str(error).split()) in err


def test_ctrl_c_is_130(command):
    command(KeyboardInterrupt())
    assert cli.main(["version"]) == 130


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_who_reads_one_line_only_is_not_told_no(unbuffered):
    """`plan … | head -1` under pipefail: 1 would be "nothing fits"."""
    reads = "import sys; sys.stdin.close()"
    shell = (
        f'"{sys.executable}" -m gemma_operator crd | "{sys.executable}" -c "{reads}"; exit ${{PIPESTATUS[0]}}'
    )
    done = run("/bin/bash", "-c", shell, PYTHONUNBUFFERED=unbuffered)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_disk_is_one_line(unbuffered):
    shell = f'exec "{sys.executable}" -m gemma_operator crd > /dev/full'
    done = run("/bin/bash", "-c", shell, PYTHONUNBUFFERED=unbuffered)
    assert done.returncode == 1
    assert done.stderr == "gemma-operator: cannot write the answer: No space left on device\n"


@pytest.mark.parametrize("arguments", [("version",), MEMORY])
def test_an_output_that_is_closed_is_no_error(arguments):
    words = " ".join(arguments)
    done = run("/bin/bash", "-c", f'exec "{sys.executable}" -m gemma_operator {words} >&-')
    assert (done.returncode, done.stderr) == (0, "")


def test_a_locale_without_our_letters_gets_an_answer():
    written = [sys.executable, "-m", "gemma_operator", *MEMORY, "--context", "8192"]
    done = run(*written, "--concurrency", "512", PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (1, "")
    assert "8192 tokens ? 512 need" in done.stdout


def test_a_mistake_of_ours_keeps_its_traceback(command):
    command(ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        cli.main(["version"])


@pytest.mark.parametrize("arguments", [[], ["unheard-of"], ["version", "--unheard-of"]])
def test_bad_arguments_are_2_with_usage(capsys, arguments):
    assert cli.main(arguments) == 2
    assert "usage: gemma-operator" in capsys.readouterr().err


def test_help_lists_every_installed_command_with_examples(capsys):
    assert cli.main(["--help"]) == 0
    out = capsys.readouterr().out
    for name in cli.installed():
        assert f"    {name} " in out or f"    {name}\n" in out
    assert "examples:" in out


@pytest.mark.parametrize("name", cli.installed())
def test_each_command_has_help_with_examples(capsys, name):
    assert cli.main([name, "--help"]) == 0
    assert "examples:" in capsys.readouterr().out
    assert name == cli.load(name).NAME


@pytest.mark.parametrize("name", ["build", "up", "down", "status", "kubeconfig", "curl"])
def test_each_command_of_the_sandbox_has_help_with_examples(capsys, name):
    assert cli.main(["sandbox", name, "--help"], program="kubectl gemma") == 0
    assert f"examples:\n  kubectl gemma sandbox {name}" in capsys.readouterr().out


def test_a_command_that_is_not_there_is_not_listed(monkeypatch, capsys):
    monkeypatch.setattr(cli, "COMMANDS", ("version", "not_written_yet"))
    assert cli.installed() == ("version",)
    assert cli.main(["not_written_yet"]) == 2


@pytest.mark.parametrize(
    ("argv0", "program"),
    [
        ("/usr/bin/gemma-operator", "gemma-operator"),
        ("/home/me/.krew/bin/kubectl-gemma", "kubectl gemma"),
        ("/src/gemma_operator/__main__.py", "gemma-operator"),
    ],
)
def test_the_plugin_is_called_as_kubectl_calls_it(argv0, program):
    assert cli.program_name(argv0) == program


def python(*arguments, **environment):
    return run(sys.executable, *arguments, **environment)


def run(*words, **environment):
    return subprocess.run(
        words,
        env={"PYTHONPATH": str(OPERATOR), "PATH": "/usr/bin:/bin", "HOME": "/nonexistent", **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_version_waits_for_none_of_the_heavy_libraries():
    heavy = ("kopf", "kubernetes", "aiohttp", "pydantic", "httpx", "yaml", "asyncio")
    code = (
        "import sys; from gemma_operator.cli import main; main(['version']);"
        f"print([name for name in {heavy!r} if name in sys.modules])"
    )
    assert python("-c", code).stdout.splitlines()[-1] == "[]"


def test_the_module_runs_as_a_program():
    done = python("-m", "gemma_operator", "version")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("gemma-operator ")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--kubeconfig", "/nowhere/config"], "there is no kubeconfig /nowhere/config"),
        (["--settings", "/nowhere/settings.yaml"], "cannot read the settings /nowhere/settings.yaml"),
        (["--metrics-port", "70000"], "--metrics-port must be 0 to 65535"),
        (["--probe-period", "0"], "--probe-period must be more than 0"),
        (["--probe-period", "nan"], "--probe-period must be more than 0"),
        (["--catalog", "/nowhere"], "--catalog: /nowhere is not a folder"),
    ],
)
def test_run_refuses_bad_input_in_one_line_with_2(arguments, words):
    done = python("-m", "gemma_operator", "run", *arguments)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_run_says_in_one_line_that_nobody_answers(tmp_path):
    config = {
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "here",
        "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}],
        "users": [{"name": "u", "user": {}}],
    }
    (tmp_path / "config").write_text(json.dumps(config))
    done = python("-m", "gemma_operator", "run", "--kubeconfig", str(tmp_path / "config"))
    assert done.returncode == 1
    assert "no answer from http://127.0.0.1:1" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("text", "words"),
    [("- a\n", "must be a mapping"), ("a: [", "are not yaml"), ("unheard: 1", "unknown setting 'unheard'")],
)
def test_run_names_what_is_wrong_with_its_settings(tmp_path, text, words):
    (tmp_path / "s.yaml").write_text(text)
    done = python("-m", "gemma_operator", "run", "--settings", str(tmp_path / "s.yaml"))
    assert done.returncode == 2
    assert words in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("words", [("--help",), *((name, "--help") for name in ("plan", "pools", "memory"))])
def test_the_plugins_help_shows_what_is_typed_there(words, capsys):
    assert cli.main(list(words), program="kubectl gemma") == 0
    said = capsys.readouterr().out
    assert said.startswith("usage: kubectl gemma")
    assert "  kubectl gemma " in said
    assert "gemma-operator " not in said
