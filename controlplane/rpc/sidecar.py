"""``SidecarService``: the control stream's form on the wire."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Iterable
from contextlib import aclosing
from dataclasses import replace
from typing import Any, Final, assert_never

import grpc
import structlog

from controlplane.core.loads import MOST_OF_A_NODE
from controlplane.rpc.caller import caller
from controlplane.services import messages as m
from controlplane.services.admission import CrowdedError, Place
from controlplane.services.audience import MOST_USES
from controlplane.services.control import ControlService
from controlplane.services.keeping import Keeping
from controlplane.services.sessions import MAX_INVENTORY_BYTES, Session
from swarmplane import features
from swarmplane.codec.conditions import condition_from_pb, node_condition_to_pb
from swarmplane.codec.explanations import explanation_from_pb
from swarmplane.codec.load import load_digest_message, load_entries_from_pb
from swarmplane.codec.policies import policy_to_pb, pull_report_from_pb
from swarmplane.codec.prefixes import prefixes_from_pb, prefixes_to_pb
from swarmplane.codec.table import update_message
from swarmplane.codec.version import version_from_pb
from swarmplane.errors import ForbiddenError, InvalidRequestError, StaleEpochError, SwarmError
from swarmplane.ids import ModelName, NodeId
from swarmplane.v1 import sidecar_pb2 as pb
from swarmplane.v1 import sidecar_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]
log = structlog.get_logger(__name__)

HELLO_S: Final = 10.0
"""Longest wait for the first message."""
_CLASH_RETRY_S: Final = 5.0
_PLACE_S: Final = 5.0
"""Longest time that one takes to come in, Hello to first table, as far as others wait for it."""
_MAX_TEXT: Final = 256
_MAX_ITEMS: Final = 64
_MAX_DIGESTS: Final = 64


class SidecarServicer(sidecar_pb2_grpc.SidecarServiceServicer):
    """See sidecar.proto."""

    def __init__(self, control: ControlService) -> None:
        self._control = control

    async def Connect(  # noqa: N802 - as in the contract
        self, request_iterator: AsyncIterator[pb.SidecarMessage], context: Context
    ) -> None:
        """See ``SidecarService.Connect`` in sidecar.proto."""
        incoming = aiter(request_iterator)
        hello = await _hello(incoming)
        who = caller()
        if who.node != hello.node:
            raise ForbiddenError("Hello names another node than the certificate")
        if features.INVENTORY_FIRST in hello.features:
            hello = replace(hello, inventory=await _inventory(hello.node, incoming))

        async def tell(ahead: int) -> None:
            await context.write(pb.ControlMessage(in_line=pb.InLine(ahead=ahead)))

        try:
            place = await self._control.admission.place(tell if features.IN_LINE in hello.features else None)
        except CrowdedError as error:
            again_s = error.retry_after_s
            await context.write(_to_pb(m.Refusal(error.code.slug, error.message, retry_after_s=again_s)))
            return
        # Whatever holds it up: others need not wait for longer.
        limit = asyncio.get_running_loop().call_later(_PLACE_S, place.give_back)
        try:
            await self._admitted(hello, incoming, context, place)
        finally:
            limit.cancel()
            place.give_back()

    async def _admitted(
        self, hello: m.Hello, incoming: AsyncIterator[pb.SidecarMessage], context: Context, place: Place
    ) -> None:
        try:
            session, welcome = await self._control.connect(hello)
        except SwarmError as error:
            await context.write(_to_pb(_refusal(error)))
            return
        try:
            await context.write(_to_pb(welcome))
            await self._converse(session, incoming, context, place)
        finally:
            self._control.ended(session)

    async def _converse(
        self, session: Session, incoming: AsyncIterator[pb.SidecarMessage], context: Context, place: Place
    ) -> None:
        keeping = self._control.keeping(session)
        async with asyncio.TaskGroup() as group:
            reading = group.create_task(
                _ending(session, self._read(session, keeping, incoming)), name="stream-read"
            )
            writing = group.create_task(_ending(session, keeping.run()), name="stream-keep")
            async with aclosing(self._control.pushes.messages(session)) as outgoing:
                async for message in outgoing:
                    for part in _parts(message):
                        await context.write(part)
                    if isinstance(message, m.TableUpdate):
                        place.give_back()
            reading.cancel()
            writing.cancel()

    async def _read(
        self, session: Session, keeping: Keeping, incoming: AsyncIterator[pb.SidecarMessage]
    ) -> None:
        """Take in what comes."""
        async for message in incoming:
            self._control.sessions.heard(session)
            await self._take(session, keeping, message)
            if session.left:
                break

    async def _take(self, session: Session, keeping: Keeping, message: pb.SidecarMessage) -> None:
        sessions = self._control.sessions
        match message.WhichOneof("kind"):
            case "heartbeat":
                sessions.beat(session)
            case "inventory":
                keeping.take_inventory(message.inventory.SerializeToString())
            case "load":
                self._take_load(session, message.load)
            case "ack":
                self._control.acknowledged(session, version_from_pb(message.ack.version), message.ack.nonce)
            case "nack":
                nack = message.nack
                if session.outbox.nacked(version_from_pb(nack.version), nack.nonce, nack.reason[:_MAX_TEXT]):
                    self._control.refused(session, nack.reason[:_MAX_TEXT])
            case "goodbye":
                await sessions.leave(session, message.goodbye.reason[:_MAX_TEXT])
            case "peer_report":
                report = message.peer_report
                reason = "" if report.reachable else report.reason[:_MAX_TEXT] or "it does not answer"
                self._control.reported(session.node, NodeId(report.node_id), reason)
            case kind:
                self._take_shared(session, message, kind)

    def _take_load(self, session: Session, load: pb.Load) -> None:
        pushes = self._control.pushes
        entries = load_entries_from_pb(load.endpoints[:MOST_OF_A_NODE])
        uses = (ModelName(name) for name in load.uses[:MOST_USES] if len(name) <= _MAX_TEXT)
        more = pushes.loads.take(session, entries, uses)
        if more:
            pushes.sharing.tell_of(session, more)

    def _take_shared(self, session: Session, message: pb.SidecarMessage, kind: str | None) -> None:
        """What others are told of, or asked for; EngineStatus is for people at the node itself as yet.

        What is newer than us is ignored.
        """
        sharing = self._control.pushes.sharing
        match kind:
            case "condition":
                sharing.take_condition(session, condition_from_pb(message.condition))
            case "prefixes":
                told = message.prefixes.endpoints[:_MAX_DIGESTS]
                sharing.take_prefixes(session, prefixes_from_pb(told))
            case "explanation":
                self._take_explanation(session, message.explanation)
            case "want_model":
                self._control.pulls.wanted(session.node, message.want_model.model[:_MAX_TEXT])
            case "pull_report":
                self._control.pulls.reported(session.node, pull_report_from_pb(message.pull_report))

    def _take_explanation(self, session: Session, answer: pb.Explanation) -> None:
        found = explanation_from_pb(answer.route) if answer.found else None
        if found is not None:
            found = replace(found, node=session.node, node_name=session.name)
        self._control.pushes.questions.answered(session, answer.query_id, found)


async def _ending(session: Session, part: Awaitable[None]) -> None:
    """Await ``part`` of the stream; with its end, whatever ends it, the stream ends."""
    word = None
    try:
        await part
    except SwarmError as error:
        log.info("stream.refused", node=session.node, code=error.code.slug, reason=error.message)
        # Of a node that says farewell the lease may end while it is renewed: that is no news to it.
        word = None if session.left else _refusal(error)
    session.outbox.end(word)


async def _inventory(node: NodeId, incoming: AsyncIterator[pb.SidecarMessage]) -> bytes | None:
    """What the node has, which it said it would say right after Hello; None where that is absurd.

    Raises:
        InvalidRequestError: It says something else.
    """
    message = await _next(incoming, "Inventory")
    if message is None or message.WhichOneof("kind") != "inventory":
        raise InvalidRequestError(f"with feature {features.INVENTORY_FIRST}, Inventory follows Hello")
    inventory = message.inventory.SerializeToString()
    if len(inventory) <= MAX_INVENTORY_BYTES:
        return inventory
    log.warning("inventory.refused", node=node, reason="it is too large", bytes=len(inventory))
    return None


async def _next(incoming: AsyncIterator[pb.SidecarMessage], name: str) -> pb.SidecarMessage | None:
    try:
        async with asyncio.timeout(HELLO_S):
            return await anext(incoming, None)
    except TimeoutError as error:
        raise InvalidRequestError(f"no {name} came within {HELLO_S:g} s") from error


async def _hello(incoming: AsyncIterator[pb.SidecarMessage]) -> m.Hello:
    first = await _next(incoming, "Hello")
    if first is None or first.WhichOneof("kind") != "hello":
        raise InvalidRequestError("a stream begins with Hello")
    hello = first.hello
    return m.Hello(
        node=NodeId(hello.node_id),
        incarnation=hello.incarnation[:_MAX_TEXT],
        last_version=version_from_pb(hello.last_version),
        features=frozenset(_texts(hello.features)),
        peer_addresses=_texts(hello.peer_addresses),
        software_version=hello.software_version[:_MAX_TEXT],
        platform=hello.platform[:_MAX_TEXT],
        client_url=hello.client_url[:_MAX_TEXT],
    )


def _texts(found: Iterable[str]) -> tuple[str, ...]:
    return tuple(text[:_MAX_TEXT] for text in list(found)[:_MAX_ITEMS])


def _refusal(error: SwarmError) -> m.Refusal:
    clash = error.code.slug == "already_exists"
    return m.Refusal(
        code=error.code.slug if clash or isinstance(error, StaleEpochError) else _slug(error),
        message=error.message,
        # A clash may end: the other process is stopped, or was this one's earlier life.
        retry=clash or error.code.retryable or isinstance(error, StaleEpochError),
        retry_after_s=_CLASH_RETRY_S if clash else 0.0,
    )


def _slug(error: SwarmError) -> str:
    return "not_ready" if error.code.retryable else error.code.slug


_OfTheStream = m.Welcome | m.Refusal | m.Redirection
_Shared = m.ConditionNews | m.PrefixNews | m.Question | m.InstanceNews
_Single = m.PolicyChange | m.Suspects | m.DrainOrder | _OfTheStream | _Shared


def add_sidecar_service(servicer: SidecarServicer, server: grpc.aio.Server) -> None:
    """Serve ``servicer``: as the generated function does, but messages may come encoded."""
    handler = grpc.stream_stream_rpc_method_handler(
        servicer.Connect, request_deserializer=pb.SidecarMessage.FromString, response_serializer=_encoded
    )
    name = pb.DESCRIPTOR.services_by_name["SidecarService"].full_name
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, {"Connect": handler}),))


def _encoded(message: pb.ControlMessage | bytes) -> bytes:
    return message if isinstance(message, bytes) else message.SerializeToString()


def _parts(message: m.Message) -> Iterable[pb.ControlMessage | bytes]:
    """``message`` on the wire: a table comes in parts."""
    if isinstance(message, m.TableUpdate):
        for part in message.parts:
            yield update_message(part, message.nonce)
    elif isinstance(message, m.LoadNews):
        yield load_digest_message(message.entries, message.load_interval_s)
    else:
        yield _to_pb(message)


def _to_pb(message: _Single) -> pb.ControlMessage:
    match message:
        case m.Welcome() | m.Refusal() | m.Redirection():
            return _of_the_stream(message)
        case m.PolicyChange(policy, nonce):
            return pb.ControlMessage(policy_update=policy_to_pb(policy, nonce))
        case m.Suspects(nodes):
            return pb.ControlMessage(suspicion=pb.Suspicion(node_ids=sorted(nodes)))
        case m.ConditionNews() | m.PrefixNews() | m.Question() | m.InstanceNews():
            return _shared(message)
        case m.DrainOrder(draining, drain_s):
            return pb.ControlMessage(drain=pb.Drain(draining=draining, drain_s=drain_s))
        case _:
            assert_never(message)


def _shared(message: _Shared) -> pb.ControlMessage:
    match message:
        case m.ConditionNews(nodes):
            digest = pb.ConditionDigest(nodes=map(node_condition_to_pb, nodes))
            return pb.ControlMessage(condition_digest=digest)
        case m.PrefixNews(endpoints):
            return pb.ControlMessage(prefix_digest=pb.PrefixDigest(endpoints=map(prefixes_to_pb, endpoints)))
        case m.Question(query_id, model, prompt_tokens):
            query = pb.ExplainQuery(query_id=query_id, model=model, prompt_tokens=prompt_tokens)
            return pb.ControlMessage(explain_query=query)
        case m.InstanceNews(control, join):
            news = pb.Instances(control_addresses=control, join_addresses=join)
            return pb.ControlMessage(instances=news)
        case _:
            assert_never(message)


def _of_the_stream(message: _OfTheStream) -> pb.ControlMessage:
    match message:
        case m.Welcome():
            return pb.ControlMessage(welcome=_welcome(message))
        case m.Refusal(code, text, retry, retry_after_s):
            reject = pb.Reject(code=code, message=text, retry=retry, retry_after_s=retry_after_s)
            return pb.ControlMessage(reject=reject)
        case m.Redirection(addresses):
            return pb.ControlMessage(redirect=pb.Redirect(control_addresses=addresses))
        case _:
            assert_never(message)


def _welcome(welcome: m.Welcome) -> pb.Welcome:
    return pb.Welcome(
        session=welcome.session,
        generation=welcome.generation,
        lease_ttl_s=welcome.lease_ttl_s,
        heartbeat_s=welcome.heartbeat_s,
        load_interval_s=welcome.load_interval_s,
        instance_id=welcome.instance,
        control_addresses=welcome.control_addresses,
        node_name=welcome.node_name,
        features=sorted(welcome.features),
        swarm_name=welcome.swarm_name,
        prefix_key=welcome.prefix_key,
        clock_s=time.time(),
    )
