"""Writing another program's settings file, after a copy of it, and putting it back as it was."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from cli.connect.forms import put, take
from cli.connect.tools import Tool
from swarmplane.datadir import DataDir, write_atomically
from swarmplane.errors import FailedPreconditionError

_SUFFIX: Final = ".before-swarmplane"
_MODE: Final = 0o600


@dataclass(frozen=True, slots=True)
class Written:
    """What was done to a file, for the way back."""

    file: str
    backup: str
    """Copy of the file as it was; empty: there was none."""
    digest: str
    """SHA-256 of what we wrote."""
    settings: Mapping[str, object]


def written(data_dir: DataDir, tool: Tool) -> Written | None:
    """What was written for ``tool`` and not undone; None: nothing."""
    try:
        return Written(**json.loads(_record(data_dir, tool).read_bytes()))
    except (FileNotFoundError, TypeError, ValueError):
        return None


def write(
    data_dir: DataDir, tool: Tool, file: Path, settings: Mapping[str, object], *, secret: bool = False
) -> Written | None:
    """Put ``settings`` into ``file``; None where they stand there already. It blocks.

    Where they are ``secret`` the file is its owner's alone afterwards.

    The copy that is kept is of the file as it was before the first time.

    Raises:
        FailedPreconditionError: The file can't be changed without losing something.
    """
    # A link of a collection of dotfiles stays one.
    file = file.resolve()
    earlier = written(data_dir, tool)
    if earlier is not None and Path(earlier.file) != file:
        raise FailedPreconditionError(f"{earlier.file} was written before; undo that first (--undo)")
    text = _read(file)
    base = text or ""
    if earlier is not None and text is not None and dict(earlier.settings) != dict(settings):
        base = take(tool, text, earlier.settings, _before(earlier))
    after = put(tool, base, settings).encode()
    if text is not None and after == text.encode():
        return None
    backup = earlier.backup if earlier is not None else _copy(file, text)
    done = Written(str(file), backup, hashlib.sha256(after).hexdigest(), settings)
    _record(data_dir, tool).parent.mkdir(parents=True, exist_ok=True)
    write_atomically(_record(data_dir, tool), json.dumps(asdict(done)).encode())
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, after, mode=_mode(file) & (_MODE if secret else 0o777))
    return done


def undo(data_dir: DataDir, tool: Tool) -> tuple[Written, bool] | None:
    """Take the settings out again, and whether the file is now exactly as it was; None: nothing to undo.

    What somebody changed in it since stays.

    Raises:
        FailedPreconditionError: The file can't be read any more.
    """
    done = written(data_dir, tool)
    if done is None:
        return None
    file = Path(done.file)
    text = _read(file)
    before = _before(done)
    exact = text is not None and hashlib.sha256(text.encode()).hexdigest() == done.digest
    if exact and not done.backup:
        file.unlink()
    elif text is not None:
        after = before if exact else take(tool, text, done.settings, before)
        write_atomically(file, after.encode(), mode=_mode(file))
    if done.backup:
        Path(done.backup).unlink(missing_ok=True)
    _record(data_dir, tool).unlink()
    return done, exact


def _record(data_dir: DataDir, tool: Tool) -> Path:
    return data_dir.root / "connect" / f"{tool.name}.json"


def _before(done: Written) -> str:
    return (_read(Path(done.backup)) or "") if done.backup else ""


def _read(file: Path) -> str | None:
    try:
        # Line ends stay what they are.
        return file.read_bytes().decode()
    except FileNotFoundError:
        return None
    except UnicodeDecodeError:
        raise FailedPreconditionError(f"{file} is no text") from None


def _copy(file: Path, text: str | None) -> str:
    if text is None:
        return ""
    backup = file.with_name(file.name + _SUFFIX)
    write_atomically(backup, text.encode(), mode=_mode(file))
    return str(backup)


def _mode(file: Path) -> int:
    """Of the file as it is; of a new one: its owner's alone, since it holds a key."""
    try:
        return file.stat().st_mode & 0o777
    except FileNotFoundError:
        return _MODE
