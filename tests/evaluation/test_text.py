"""wavenet.evaluation.text: names are text in Markdown, and do not contain a machine's folders."""

from pathlib import Path

import pytest

from wavenet.evaluation.text import (
    code_span,
    common_folder,
    escaped,
    plain_text,
    portable_command,
    portable_model,
    portable_path,
    without_folder,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("prompts_en/a-1.wav", "prompts_en/a-1.wav"),
        ("_a_ *b* `c`", r"\_a\_ \*b\* \`c\`"),
        ("<script>&amp;", "&lt;script&gt;&amp;amp;"),
        ("a|b\n# c", r"a\|b \# c"),
        ("[x](javascript:y)", r"\[x\](javascript:y)"),
        ("\x1b[2J", r"\\x1b\[2J"),
    ],
)
def test_markup_in_a_name_is_escaped(text: str, expected: str) -> None:
    assert escaped(text) == expected


def test_code_is_fenced_by_more_backticks_than_it_holds() -> None:
    assert code_span("a b") == "`a b`"
    assert code_span("`` a ` \x1b") == r"``` `` a ` \x1b ```"


def test_control_characters_are_written_out_at_any_depth() -> None:
    assert plain_text({"a\x1b": ["\x07", 1, None, {"b": "\n"}]}) == {
        r"a\x1b": [r"\x07", 1, None, {"b": r"\n"}]
    }


def test_absolute_paths_become_names_and_others_stay() -> None:
    assert portable_path("/data/ann/corpus/") == "corpus"
    assert portable_path("~/corpus") == "corpus"
    assert portable_path("C:\\Users\\ann\\corpus") == "corpus"
    assert portable_path("samples/voice") == "samples/voice"
    assert portable_path("/") == "/"
    assert portable_model("/data/ann/my-voice/model") == "my-voice/model"
    assert portable_model("my-voice/model") == "my-voice/model"
    assert portable_model("prompts-16k") == "prompts-16k"
    command = "wavenet evaluate '/data/ann b/m' x --out=/tmp/y --top-p 0.9 --speaker 'a b'"
    assert portable_command(command) == ("wavenet evaluate m x --out=y --top-p 0.9 --speaker 'a b'")


def test_messages_begin_with_a_path_relative_to_the_folder() -> None:
    folder = Path("/data/ann/corpus")
    assert without_folder(f"{folder}/a/b.wav: silent", folder) == "a/b.wav: silent"
    assert without_folder("/data/bob/b.wav: silent: why", folder) == "b.wav: silent: why"
    assert common_folder(["/a/b/c.wav", "/a/d.wav", "e.wav"]) == "/a"
    assert common_folder(["e.wav"]) == ""
