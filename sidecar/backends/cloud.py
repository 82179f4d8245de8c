"""What a provider in the cloud has: asked seldom, and believed only once it took our key."""

from __future__ import annotations

from dataclasses import replace

from sidecar.backends.finding import Finding, Health
from sidecar.backends.listing import read_models
from sidecar.backends.looks import refused
from sidecar.backends.ollama_probe import Ask
from sidecar.backends.target import BackendSpec
from sidecar.dialects.translate import ANTHROPIC, COUNTS, OPENAI
from swarmplane import providers
from swarmplane.aliases import matches
from swarmplane.ids import ModelName
from swarmplane.inventory import BackendModel
from swarmplane.providers import EMPTY_REQUEST, PROVIDERS, kind_of, verdict

_UNAVAILABLE = 503


async def look_at_provider(spec: BackendSpec, kind: str, ask: Ask) -> Finding:
    """The models of the provider of ``spec``, as ``NAME:MODEL``; ``kind`` is empty until it took the key.

    Raises:
        ListingError: It lists its models as nobody else does.
        aiohttp.ClientError, OSError: It can't be asked.
    """
    provider = PROVIDERS[spec.provider]
    if spec.key_file is None:
        return Finding(Health.NEEDS_KEY, "it has no key; give it one: swarmctl backend add --key-file FILE")
    listed, body = await ask(provider.models_path)
    if listed == _UNAVAILABLE:
        return refused(listed)
    # An empty request every time would be a request that somebody counts.
    asked = 0 if kind else (await ask(provider.chat_path, EMPTY_REQUEST))[0]
    reason = verdict(listed, asked)
    if reason:
        refuses = "key" in reason
        return Finding(Health.NEEDS_KEY if refuses else Health.FAILING, reason)
    _, models = read_models(body)
    offered = tuple(_named(spec, model) for model in models if _is_offered(spec, model.name))
    dialects = frozenset({ANTHROPIC, COUNTS} if provider.dialect == providers.ANTHROPIC else {OPENAI})
    return Finding(
        Health.OK,
        "",
        kind_of(spec.provider, spec.use),
        offered,
        dialects=dialects,
        defaults=provider.defaults,
    )


def _is_offered(spec: BackendSpec, name: str) -> bool:
    return not spec.models or any(matches(pattern, name) for pattern in spec.models)


def _named(spec: BackendSpec, model: BackendModel) -> BackendModel:
    return replace(model, canonical=ModelName(f"{spec.name}:{model.name}"))
