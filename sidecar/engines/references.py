"""From a model as an operator names it to its file."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from swarmplane import models
from swarmplane.errors import NotFoundError
from swarmplane.gguf import model_name
from swarmplane.ids import BackendName, ModelName

_UNSAFE: Final = re.compile(r"[^A-Za-z0-9._-]+")
_LONGEST: Final = 64
_SHOWN: Final = 10


@dataclass(frozen=True, slots=True)
class Reference:
    """A model to serve."""

    text: str
    """As it was written."""

    @property
    def model(self) -> ModelName:
        """The canonical name: that of the file, without folder and suffix."""
        path = Path(self.text)
        return ModelName(model_name(path) if _is_path(self.text) else self.text)

    @property
    def name(self) -> BackendName:
        """Name of its engine and of the engine's folder."""
        return BackendName(_UNSAFE.sub("-", self.model).strip(".-")[:_LONGEST] or "model")


def resolve(reference: Reference, models_dir: Path | None) -> Path:
    """The file: a path, else a name in ``models_dir``, else one of the models that come with us. It blocks.

    Raises:
        NotFoundError: There is none; names those in ``models_dir``.
    """
    path = Path(reference.text).expanduser()
    if _is_path(reference.text):
        if path.is_file():
            return path.absolute()
        if path.is_absolute() or models_dir is None:
            raise NotFoundError(f"there is no file {path.name}")
    found = {} if models_dir is None else _files(models_dir)
    wanted = reference.model.casefold()
    match = next((file for name, file in found.items() if name.casefold() == wanted), None)
    if match is not None:
        return match
    if reference.text in models.names():
        return models.path(reference.text)
    if models_dir is None:
        raise NotFoundError(f"{reference.text} is neither a file nor found: engine.models_dir is not set")
    shown = ", ".join(sorted(found)[:_SHOWN]) or "no models"
    raise NotFoundError(f"there is no {reference.text} in engine.models_dir, which has {shown}")


def _is_path(text: str) -> bool:
    return text.lower().endswith(".gguf") or "/" in text or "\\" in text


def _files(folder: Path) -> dict[str, Path]:
    """Models by name, one entry for all parts of one."""
    found: dict[str, Path] = {}
    for file in sorted(folder.expanduser().rglob("*.gguf")):
        found.setdefault(model_name(file), file.absolute())
    return found
