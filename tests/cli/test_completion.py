"""``wavenet --print-completion``: a script of the shell that knows commands and options."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

from wavenet.cli.main import COMMANDS, main, whole_parser

pytest.importorskip("shtab", reason="the extra completion is not installed")


def script(shell: str, capsys: pytest.CaptureFixture[str]) -> str:
    """What the command prints for a shell."""
    with pytest.raises(SystemExit) as ended:
        main(["--print-completion", shell])
    assert ended.value.code in (0, None)
    return capsys.readouterr().out


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_a_script_has_every_command_and_the_options_of_train(
    shell: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = script(shell, capsys)
    for name in COMMANDS:
        assert name in text
    for option in ("--batch-size", "--model.residual-channels", "--noise-shaping"):
        assert option in text


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash, which is not here")
def test_bash_completes_a_command_and_an_option(capsys: pytest.CaptureFixture[str]) -> None:
    ask = 'COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _shtab_wavenet; echo "${COMPREPLY[@]}"'
    words = f"COMP_WORDS=(wavenet rec); {ask}; COMP_WORDS=(wavenet vocode --ref); {ask}"
    done = subprocess.run(
        ["bash", "-c", f"{script('bash', capsys)}\n{words}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["receptive-field", "--refine"]


def test_a_shell_that_is_not_known_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--print-completion", "fish"]) == 2
    message = capsys.readouterr().err
    assert "invalid choice: 'fish'" in message
    assert message.count("\n") == 1


def test_without_shtab_the_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert main(["--print-completion", "bash"]) == 2
    assert capsys.readouterr().err == (
        'wavenet: completion needs shtab: pip install "wavenet-audio[completion]"\n'
    )


def test_the_whole_parser_has_every_command_with_its_options() -> None:
    commands = whole_parser().commands
    assert list(commands) == list(COMMANDS)
    for name, parser in commands.items():
        assert len(parser._actions) > 1, name
