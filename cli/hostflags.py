"""Flags of ``up`` and ``join`` as overrides of settings."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import click

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class _Flag:
    name: str
    key: str
    """Of the settings."""
    help: str
    metavar: str = "HOST:PORT"
    kind: str = "text"
    """``text``, ``list``, ``pairs``, ``on`` or ``off``."""
    paths: bool = False
    """Existing files among the values are made absolute."""
    kept: bool = True
    """It describes the host, so it goes into ``config.toml``; others hold for one run."""

    @property
    def parameter(self) -> str:
        return self.name.removeprefix("--").replace("-", "_")


_FLAGS: Final = (
    _Flag("--lan", "node.lan", "Listen on all interfaces.", kind="on"),
    _Flag("--open", "swarm.open", "Let hosts join the new swarm without a token.", kind="on", kept=False),
    _Flag("--name", "node.name", "Name of this node, a DNS label.", "NAME"),
    _Flag("--swarm", "swarm.name", "Name of the swarm to found.", "NAME"),
    _Flag("--advertise", "node.advertise", "Host that others reach this one by; repeatable.", "HOST", "list"),
    _Flag("--label", "node.labels", "Label of this node; repeatable.", "K=V", "pairs"),
    _Flag(
        "--model", "engine.models", "GGUF file, or name in --models-dir; repeatable.", "REF", "list",
        paths=True,
    ),
    _Flag("--models-dir", "engine.models_dir", "Where named models are.", "DIR", paths=True),
    _Flag("--backend", "backends", "Inference server to offer; repeatable.", "URL", "list"),
    _Flag("--no-discover", "discovery.backends", "Don't look for inference servers here.", kind="off"),
    _Flag("--no-mdns", "discovery.mdns", "Advertise and browse nothing.", kind="off"),
    _Flag("--listen", "client.listen", "Client listener; repeatable.", kind="list"),
    _Flag("--control-listen", "control.listen", "Control plane's listener."),
    _Flag("--join-listen", "control.join_listen", "Enrolment listener."),
    _Flag("--console-listen", "control.console_listen", "Console and control-plane admin listener."),
    _Flag("--etcd", "etcd.endpoints", "etcd that keeps the swarm of several control planes.", "URL,..."),
    _Flag("--etcd-ca", "etcd.ca_file", "Authorities of etcd's certificates.", "FILE", paths=True),
    _Flag("--etcd-cert", "etcd.cert_file", "Certificate towards etcd.", "FILE", paths=True),
    _Flag("--etcd-key", "etcd.key_file", "Its key.", "FILE", paths=True),
    _Flag("--etcd-user", "etcd.user", "User of etcd.", "NAME"),
    _Flag("--etcd-password-file", "etcd.password_file", "File with its password.", "FILE", paths=True),
    _Flag("--swarm-secret-file", "swarm.secret_file", "The swarm secret, from another instance.", "FILE",
          paths=True),
    _Flag("--peer-listen", "peer.listen", "Listener for other nodes."),
    _Flag("--admin-listen", "admin.listen", "Admin listener of the sidecar."),
    _Flag("--metrics-listen", "telemetry.metrics_listen", "Listener for the sidecar's metrics alone."),
    _Flag("--control-metrics-listen", "control.metrics_listen", "Listener for the control plane's metrics."),
    _Flag("--log-level", "log.level", "debug, info, warning or error.", "LEVEL", kept=False),
    _Flag("--log-format", "log.format", "text or json.", "FORMAT", kept=False),
    _Flag("--set", "", "Any setting, for this run; repeatable.", "KEY=VALUE", "list", kept=False),
)  # fmt: skip


def host_flags(command: Decorated) -> Decorated:
    """Add the flags that describe a host; the command takes them as keywords for :func:`overrides_of`."""
    return _with(command, _FLAGS)


def etcd_flags(command: Decorated) -> Decorated:
    """Add those of :func:`host_flags` that say where etcd is."""
    return _with(command, [flag for flag in _FLAGS if flag.key.startswith("etcd.")])


def _with(command: Decorated, flags: Sequence[_Flag]) -> Decorated:
    for flag in reversed(flags):
        switch = flag.kind in {"on", "off"}
        command = click.option(
            flag.name,
            flag.parameter,
            is_flag=switch,
            multiple=flag.kind in {"list", "pairs"},
            metavar=None if switch else flag.metavar,
            help=flag.help,
        )(command)
    return command


def overrides_of(given: Mapping[str, Any]) -> tuple[str, ...]:
    """``key.path=value`` for every flag that was given."""
    return _overrides(given, _FLAGS)


def kept_of(given: Mapping[str, Any]) -> tuple[str, ...]:
    """Those of :func:`overrides_of` that describe the host and are kept in ``config.toml``."""
    return _overrides(given, [flag for flag in _FLAGS if flag.kept])


def _overrides(given: Mapping[str, Any], flags: Sequence[_Flag]) -> tuple[str, ...]:
    overrides: list[str] = []
    for flag in flags:
        value = given.get(flag.parameter)
        if value:
            overrides += _of(flag, value)
    return tuple(overrides)


def _of(flag: _Flag, value: Any) -> Sequence[str]:  # noqa: ANN401 - text, flag or several texts
    if not flag.key:
        return list(value)
    match flag.kind:
        case "on" | "off":
            return [f"{flag.key}={'true' if flag.kind == 'on' else 'false'}"]
        case "list":
            return [f"{flag.key}={json.dumps([_absolute(flag, one) for one in value])}"]
        case "pairs":
            return [f"{flag.key}.{_pair(flag, one)}" for one in value]
        case _:
            return [f"{flag.key}={_absolute(flag, value)}"]


def _absolute(flag: _Flag, text: str) -> str:
    if not flag.paths:
        return text
    path = Path(text).expanduser()
    # What runs later, and elsewhere, must find the same file.
    return str(path.absolute()) if path.exists() or text.endswith(".gguf") else text


def _pair(flag: _Flag, text: str) -> str:
    if "=" not in text:
        raise click.BadParameter(f"{text!r} is not K=V", param_hint=flag.name)
    return text
