"""Settings put into the text of a file, and taken out again; everything else in it stays as it was.

Pure: text in, text out. Putting the same settings in twice changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any, Final

from cli.connect.tools import Form, Place, Tool
from swarmplane.errors import FailedPreconditionError

BEGIN: Final = "# swarmplane: begin"
END: Final = "# swarmplane: end"
WAS: Final = "# swarmplane, was: "
"""Before a line that had to give way."""


def put(tool: Tool, text: str, settings: Mapping[str, object]) -> str:
    """``text`` with ``settings`` in it.

    Raises:
        FailedPreconditionError: It can't be done without losing something; says what.
    """
    match tool.form:
        case Form.JSON:
            document = _json(text)
            _merge(document, settings)
            return text if text and document == _json(text) else _dumped(document, text)
        case Form.TOML:
            return _toml_put(text, settings)
        case Form.LINES:
            return _lines_put(_without_block(text), tool, settings)
        case Form.MODELS:
            return _models_put(_without_block(text), tool, settings)


def take(tool: Tool, text: str, settings: Mapping[str, object], before: str) -> str:
    """``text`` without ``settings``, and with what they replaced in ``before``; what was changed since stays.

    Raises:
        FailedPreconditionError: The file can't be read any more.
    """
    match tool.form:
        case Form.JSON:
            document = _json(text)
            _restore(document, settings, _json(before))
            return _dumped(document, text)
        case Form.TOML:
            import tomlkit

            parsed = _toml(text)
            _restore(parsed, settings, _toml(before).unwrap())
            return tomlkit.dumps(parsed)
        case Form.LINES | Form.MODELS:
            return _without_block(text)


def entry_lines(settings: Mapping[str, object], indent: str) -> Iterator[str]:
    """One entry of a YAML list. Values are written as JSON, which is YAML."""
    for number, (name, value) in enumerate(settings.items()):
        head = f"{indent}{'- ' if number == 0 else '  '}{name}:"
        if isinstance(value, Mapping):
            yield head
            yield from (f"{indent}    {inner}: {json.dumps(one)}" for inner, one in value.items())
        else:
            yield f"{head} {json.dumps(value)}"


def _json(text: str) -> dict[str, Any]:
    if not text.strip():
        return {}
    try:
        document = json.loads(text)
    except ValueError as error:
        raise FailedPreconditionError(
            "the file is no plain JSON (comments would be lost); write the settings by hand"
        ) from error
    if not isinstance(document, dict):
        raise FailedPreconditionError("the file is no JSON object; write the settings by hand")
    return document


def _dumped(document: Mapping[str, Any], like: str) -> str:
    """Indented as ``like`` is."""
    second = next((line for line in like.splitlines()[1:] if line.strip()), "  ")
    indent = second[: len(second) - len(second.lstrip())] or "  "
    return json.dumps(document, indent=indent, ensure_ascii=False) + "\n"


def _toml(text: str) -> Any:  # noqa: ANN401 - tomlkit's documents are typed loosely
    import tomlkit
    from tomlkit.exceptions import ParseError

    try:
        return tomlkit.parse(text)
    except ParseError as error:
        raise FailedPreconditionError(f"the file is no valid TOML: {error}") from error


def _toml_put(text: str, settings: Mapping[str, object]) -> str:
    import tomlkit

    document = _toml(text)
    before = document.unwrap()
    # Below a table a plain key would belong to it: what stands alone comes first.
    plain = {name: value for name, value in settings.items() if not isinstance(value, Mapping)}
    fresh = {name: value for name, value in plain.items() if name not in document}
    _merge(document, {name: value for name, value in settings.items() if name not in fresh})
    if fresh:
        head = "".join(f"{name} = {tomlkit.item(value).as_string()}\n" for name, value in fresh.items())
        document = _toml(head + tomlkit.dumps(document))
    return text if document.unwrap() == before else tomlkit.dumps(document)


def _merge(document: MutableMapping[str, Any], settings: Mapping[str, object]) -> None:
    for name, value in settings.items():
        inner = document.get(name)
        if isinstance(value, Mapping) and isinstance(inner, MutableMapping):
            _merge(inner, value)
        else:
            document[name] = value


def _restore(
    document: MutableMapping[str, Any], settings: Mapping[str, object], before: Mapping[str, Any]
) -> None:
    """Undo :func:`_merge` where nobody changed the value since."""
    for name, value in settings.items():
        inner, old = document.get(name), before.get(name)
        if isinstance(value, Mapping) and isinstance(inner, MutableMapping):
            _restore(inner, value, old if isinstance(old, Mapping) else {})
            if not inner and name not in before:
                del document[name]
        elif inner == value and name in before:
            document[name] = old
        elif inner == value:
            del document[name]


def _lines_put(text: str, tool: Tool, settings: Mapping[str, object]) -> str:
    mark = tool.assign.strip()
    lines = []
    for line in text.splitlines():
        name, found, _ = line.partition(mark)
        ours = found and not line[:1].isspace() and name.strip().removeprefix("export ") in settings
        lines.append(f"{WAS}{line}" if ours else line)
    block = [BEGIN, *(f"{name}{tool.assign}{value}" for name, value in settings.items()), END]
    return "\n".join([*lines, *block]) + "\n"


def _models_put(text: str, tool: Tool, settings: Mapping[str, object]) -> str:
    lines = text.splitlines()
    at = next((i for i, line in enumerate(lines) if line.startswith(f"{tool.list_key}:")), None)
    if at is None:
        head = lines if tool.name != "continue" or lines else _NEW_CONTINUE
        return "\n".join([*head, BEGIN, f"{tool.list_key}:", *entry_lines(settings, "  "), END]) + "\n"
    rest = lines[at].partition(":")[2].partition("#")[0].strip()
    if rest:
        raise FailedPreconditionError(
            f"the file has its {tool.list_key} on one line; write the settings by hand"
        )
    following = next((line for line in lines[at + 1 :] if line.strip()[:1] == "-"), "  -")
    indent = following[: len(following) - len(following.lstrip())]
    block = [f"{indent}{BEGIN}", *entry_lines(settings, indent), f"{indent}{END}"]
    return "\n".join([*lines[: at + 1], *block, *lines[at + 1 :]]) + "\n"


_NEW_CONTINUE: Final = ["name: Local", "version: 0.0.1", "schema: v1"]
"""What a file of Continue's has to begin with."""


def _without_block(text: str) -> str:
    """Without what stands between our marks, and with the lines that gave way to it."""
    kept = []
    inside = False
    for line in text.splitlines(keepends=True):
        words = line.strip()
        if words == BEGIN:
            inside = True
        elif words == END:
            inside = False
        elif not inside:
            kept.append(line.replace(WAS, "", 1) if line.startswith(WAS) else line)
    return "".join(kept)


def printed(tool: Tool, place: Place) -> str:
    """The settings as they would stand in the program's file."""
    settings = tool.settings(place)
    if tool.form is Form.JSON:
        return json.dumps(settings, indent=2)
    if tool.form is Form.TOML:
        import tomlkit

        return tomlkit.dumps(settings).strip()
    if tool.form is Form.MODELS:
        return "\n".join([f"{tool.list_key}:", *entry_lines(settings, "  ")])
    return "\n".join(f"{name}{tool.assign}{value}" for name, value in settings.items())
