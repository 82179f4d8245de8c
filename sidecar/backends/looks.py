"""How each kind of inference server is asked for its models and for how busy it is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Final

import aiohttp

from sidecar.backends.abilities import makes_embeddings, of_llama_server, of_routes
from sidecar.backends.catalogues import read_lm_studio, with_localai, with_omlx
from sidecar.backends.figures import WITH_METRICS, Figures, read_metrics, with_slots
from sidecar.backends.finding import NO_FIGURES, Finding, Health
from sidecar.backends.listing import ListingError, figure, read_json, read_models, read_props
from sidecar.backends.ollama_probe import Ask, Shelf, look
from sidecar.core.identify import (
    LLAMA_CPP_PYTHON,
    LLAMA_SERVER,
    LM_STUDIO,
    LOCALAI,
    MLX,
    MODELS,
    OLLAMA,
    OMLX,
    REST,
    SGLANG,
    SIGNATURES,
    SYSTEM,
    VLLM,
)
from swarmplane.inventory import BackendModel
from swarmplane.providers import EMPTY_REQUEST

WITH_HEALTH: Final = frozenset({LLAMA_SERVER, VLLM, SGLANG})
"""Kinds that answer ``GET /health``."""
_SIGNED: Final = frozenset(SIGNATURES.values())
_ALWAYS_SIGNED: Final = _SIGNED - {MLX}
"""Some MLX servers say who they are in their lists, others don't."""
_OK: Final = 200
_UNAUTHORIZED: Final = 401
_FORBIDDEN: Final = 403
_UNAVAILABLE: Final = 503


async def look_at(kind: str, ask: Ask, shelf: Shelf) -> Finding:
    """What a backend of this ``kind`` has now. ``shelf`` keeps what need not be asked again.

    A finding of another kind, or of none, means that something else listens there by now.

    Raises:
        ListingError: It answered something else.
        aiohttp.ClientError, OSError: It can't be asked.
    """
    special = _LOOKS.get(kind)
    return await special(ask, shelf) if special is not None else await _openai(kind, ask)


def refused(status: int) -> Finding:
    """It would not tell: why, by the ``status`` of its answer."""
    if status == _UNAUTHORIZED:
        return Finding(Health.NEEDS_KEY, "it refuses our key")
    if status == _FORBIDDEN:
        return Finding(Health.NEEDS_KEY, "it forbids us to list its models")
    if status == _UNAVAILABLE:
        return Finding(Health.LOADING, "it is still loading, or too busy")
    return Finding(Health.FAILING, f"it answers with HTTP status {status}")


async def _openai(kind: str, ask: Ask) -> Finding:
    if kind in WITH_HEALTH:
        status, _ = await ask("/health")
        if status != _OK:
            return refused(status)
    status, body = await ask(MODELS)
    if status != _OK:
        return refused(status)
    told, listed = read_models(body)
    if told != kind and (told in _SIGNED or kind in _ALWAYS_SIGNED):
        return Finding(Health.OK, "", "", listed)
    figures = await _figures(kind, ask) if kind in WITH_METRICS else NO_FIGURES
    return Finding(Health.OK, "", kind, listed, figures=figures)


async def _llama_cpp_python(ask: Ask, shelf: Shelf) -> Finding:
    """Listing its models cuts off the stream it is generating (measured): that is done once only."""
    if shelf.listed:
        await ask("/health")  # it has none: any answer shows that it lives
        return Finding(Health.OK, "", LLAMA_CPP_PYTHON, None)
    found = await _openai(LLAMA_CPP_PYTHON, ask)
    shelf.listed = found.health is Health.OK and found.kind == LLAMA_CPP_PYTHON
    return found


async def _llama_server(ask: Ask, shelf: Shelf) -> Finding:
    found = await _openai(LLAMA_SERVER, ask)
    if found.health is not Health.OK or found.kind != LLAMA_SERVER:
        return found
    status, body = await ask("/props")
    if status in {_UNAUTHORIZED, _FORBIDDEN}:  # its list of models is public, nothing else is
        return refused(status)
    if found.figures.running is None or (found.figures.running and found.figures.kv_used is None):
        found = replace(found, figures=await _with_slots(ask, found.figures))
    if status != _OK:  # a router of several models has none
        return found
    context, slots, quantization = read_props(body)
    capabilities = of_llama_server(read_json(body), embeds=await _embeds(ask, shelf))
    models = tuple(
        replace(
            model,
            context_length=context or model.context_length,
            quantization=model.quantization or quantization,
            capabilities=capabilities,
        )
        for model in found.models or ()
    )
    return replace(found, models=models, slots=slots)


async def _ollama(ask: Ask, shelf: Shelf) -> Finding:
    found = await look(ask, shelf)
    if isinstance(found, int):
        return refused(found)
    return Finding(Health.OK, "", OLLAMA, found.models, residents=found.residents, more=shelf.missing)


async def _embeds(ask: Ask, shelf: Shelf) -> bool:
    if shelf.embeds is None:
        try:
            status, body = await ask("/v1/embeddings", EMPTY_REQUEST)
        except (ListingError, aiohttp.ClientError, OSError):
            return True
        shelf.embeds = makes_embeddings(status, body)
    return shelf.embeds


async def _vllm(ask: Ask, shelf: Shelf) -> Finding:
    found = await _openai(VLLM, ask)
    if found.health is not Health.OK or found.kind != VLLM:
        return found
    if not shelf.listed:
        shelf.listed = True
        shelf.abilities = of_routes(await _told(ask, "/openapi.json"))
    models = tuple(replace(model, capabilities=shelf.abilities) for model in found.models or ())
    return replace(found, models=models)


async def _lm_studio(ask: Ask, _shelf: Shelf) -> Finding:
    status, body = await ask(REST)
    if status != _OK:
        return refused(status)
    return Finding(Health.OK, "", LM_STUDIO, read_lm_studio(body))


async def _sglang(ask: Ask, shelf: Shelf) -> Finding:
    found = await _openai(SGLANG, ask)
    if found.health is Health.OK and found.kind == SGLANG and not shelf.listed:
        shelf.listed = True
        shelf.slots = _most_running(await _told(ask, "/get_server_info"))
    return replace(found, slots=shelf.slots)


async def _localai(ask: Ask, _shelf: Shelf) -> Finding:
    return await _with_states(LOCALAI, ask, SYSTEM, with_localai)


async def _omlx(ask: Ask, _shelf: Shelf) -> Finding:
    return await _with_states(OMLX, ask, "/v1/models/status", with_omlx)


_States = Callable[[tuple[BackendModel, ...], bytes], tuple[BackendModel, ...]]


async def _with_states(kind: str, ask: Ask, path: str, read: _States) -> Finding:
    """As OpenAI's, with which models are loaded, where its version tells at ``path``."""
    found = await _openai(kind, ask)
    if found.health is not Health.OK or found.kind != kind or found.models is None:
        return found
    try:
        status, body = await ask(path)
        return replace(found, models=read(found.models, body)) if status == _OK else found
    except ListingError:
        return found


async def _figures(kind: str, ask: Ask) -> Figures:
    try:
        status, body = await ask("/metrics")
    except (ListingError, aiohttp.ClientError, OSError):
        return NO_FIGURES
    return read_metrics(kind, body.decode(errors="replace")) if status == _OK else NO_FIGURES


async def _with_slots(ask: Ask, figures: Figures) -> Figures:
    try:
        status, body = await ask("/slots")
    except (ListingError, aiohttp.ClientError, OSError):
        return figures
    return with_slots(figures, body) if status == _OK else figures


async def _told(ask: Ask, path: str) -> Mapping[str, Any]:
    """What it tells at ``path``, if it does."""
    try:
        status, body = await ask(path)
        return read_json(body) if status == _OK else {}
    except (ListingError, aiohttp.ClientError, OSError):
        return {}


def _most_running(told: Mapping[str, Any]) -> int:
    """Requests that SGLang answers at a time; 0: not told."""
    states = told.get("internal_states")
    parts = [one for one in states if isinstance(one, dict)] if isinstance(states, list) else []
    each = sum(figure(one, "effective_max_running_requests_per_dp") for one in parts)
    return each or figure(told, "max_running_requests")


_LOOKS: Final[Mapping[str, Callable[[Ask, Shelf], Awaitable[Finding]]]] = MappingProxyType(
    {
        LLAMA_CPP_PYTHON: _llama_cpp_python,
        LLAMA_SERVER: _llama_server,
        LM_STUDIO: _lm_studio,
        LOCALAI: _localai,
        OLLAMA: _ollama,
        OMLX: _omlx,
        SGLANG: _sglang,
        VLLM: _vllm,
    }
)
