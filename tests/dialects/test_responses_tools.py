"""Tools of Responses that are no plain functions, there and back.

Mutants that were tried and are killed: tools of OpenAI's own passed on, or left out where they are all there
is; a grammar not told; one namespace's function taken for another's; a free text lost because it is no JSON.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from sidecar.dialects.answer import Delta, Ending, ToolDelta, Whole
from sidecar.dialects.chat import ToolCall
from sidecar.dialects.responses_tools import as_arguments, as_text
from sidecar.dialects.responses_writing import ResponsesWriter
from sidecar.dialects.translate import OLLAMA, OPENAI, translate
from swarmplane.errors import InvalidRequestError

FUNCTION = {"type": "function", "name": "look", "parameters": {"type": "object", "properties": {}}}
FREE = {
    "type": "custom",
    "name": "patch",
    "format": {"type": "grammar", "syntax": "lark", "definition": "s: x"},
}


def space(name: str) -> dict[str, Any]:
    return {"type": "namespace", "name": name, "tools": [FUNCTION, {"type": "image_generation"}]}


def sent(tools: list[Any], spoken: str = OPENAI, **more: Any) -> Any:
    body = {"model": "m", "input": "hi", "tools": tools, **more}
    outgoing = translate(
        b"/v1/responses",
        json.dumps(body).encode(),
        spoken=frozenset({OPENAI, spoken}),
        model="m",
        asked="m",
        answer_id="a",
        now_s=1,
    )
    return json.loads(outgoing.body), outgoing.answer


@pytest.mark.parametrize("spoken", [OPENAI, OLLAMA])
def test_what_only_openai_runs_is_left_out_beside_others(spoken: str) -> None:
    body, _ = sent([{"type": "web_search"}, FUNCTION, FREE, space("a__"), space("b__")], spoken)
    functions = [tool["function"] for tool in body["tools"]]
    assert [one["name"] for one in functions] == ["look", "patch", "a__look", "b__look"]
    assert functions[1]["description"] == "The input is text by this grammar (lark):\ns: x"


@pytest.mark.parametrize(
    "tools", [[{"type": "web_search"}], [{"type": "namespace", "name": "n", "tools": []}]]
)
def test_alone_it_is_refused(tools: list[Any]) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        sent(tools)
    assert refused.value.details["param"] == "tools[0].type"


def test_names_and_descriptions_fit_a_backend() -> None:
    long = {"type": "namespace", "name": "n" * 64, "tools": [FUNCTION, FUNCTION | {"name": "list"}]}
    body, _ = sent([long, FREE | {"description": "Changes files."}])
    names = [tool["function"]["name"] for tool in body["tools"]]
    assert all(len(name) <= 64 for name in names)
    assert len(set(names)) == 3, "what is cut is not what tells them apart"
    assert body["tools"][2]["function"]["description"].startswith("Changes files.\n\nThe input")


def test_a_tool_must_have_a_name() -> None:
    with pytest.raises(InvalidRequestError) as refused:
        sent([FUNCTION, {"type": "namespace", "name": "n", "tools": [{"type": "function"}]}])
    assert refused.value.details["param"] == "tools[1].tools[0].name"


def test_a_whole_answer_has_them_in_their_own_kind() -> None:
    _, answer = sent([FREE, space("a__"), FUNCTION, {"type": "namespace", "name": "b", "tools": [FREE]}])
    calls = [
        ("patch", '{"input":"+1"}'),
        ("patch", "+2"),
        ("a__look", "{}"),
        ("look", "{}"),
        ("b__patch", '{"input":"+3"}'),
    ]
    tool_calls = [
        {"id": f"c{n}", "type": "function", "function": {"name": name, "arguments": given}}
        for n, (name, given) in enumerate(calls)
    ]
    message = {"role": "assistant", "content": None, "tool_calls": tool_calls}
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
    whole = json.loads(answer.whole(json.dumps({"choices": [choice]}).encode()))
    shown = [
        (one["type"], one.get("namespace"), one["name"], one.get("input", one.get("arguments")))
        for one in whole["output"]
    ]
    assert shown == [
        ("custom_tool_call", None, "patch", "+1"),
        ("custom_tool_call", None, "patch", "+2"),
        ("function_call", "a__", "look", "{}"),
        ("function_call", None, "look", "{}"),
        ("custom_tool_call", "b", "patch", "+3"),
    ]


def test_a_model_that_must_call_may_be_told_which_free_one() -> None:
    body, _ = sent([FUNCTION, FREE], tool_choice={"type": "custom", "name": "patch"})
    assert body["tool_choice"] == {"type": "function", "function": {"name": "patch"}}


@pytest.mark.parametrize("text", ["", '{"input":', '"\\', "*** Begin\n+ü 日本\n"])
def test_a_text_survives_its_json(text: str) -> None:
    assert as_text(as_arguments(text)) == text


def test_plain_functions_are_written_as_before() -> None:
    writer = ResponsesWriter("m", "a", 1, {})
    stream = writer.delta(Delta("", "", [ToolDelta(0, "c", "patch", '{"input":"x"}')])) + writer.end(Ending())
    assert b"custom_tool_call" not in stream
    whole = ResponsesWriter("m", "a", 1, {}).whole(Whole("", Ending(), "", (ToolCall("c", "patch", "{}"),)))
    assert json.loads(whole)["output"][0]["arguments"] == "{}"
