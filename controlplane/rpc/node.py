"""``NodeService``."""

from __future__ import annotations

from typing import Any

import grpc

from controlplane.rpc.caller import caller
from controlplane.rpc.enrollment import fingerprint_of
from controlplane.rpc.paging import PageToken, decode_page_token, page_size
from controlplane.services.control import ControlService
from controlplane.services.dedupe import Repeat
from controlplane.services.nodes import NodeFacts
from controlplane.services.outbox import PushState
from swarmplane.codec.conditions import condition_to_pb
from swarmplane.codec.inventory import gpus_to_pb
from swarmplane.codec.operations import operation_to_pb
from swarmplane.codec.version import version_to_pb
from swarmplane.conditions import Condition
from swarmplane.ids import NodeId
from swarmplane.inventory import Backend, Inventory
from swarmplane.v1 import common_pb2, node_pb2_grpc, operation_pb2
from swarmplane.v1 import node_pb2 as pb

Context = grpc.aio.ServicerContext[Any, Any]


class NodeServicer(node_pb2_grpc.NodeServiceServicer):
    """See node.proto."""

    def __init__(self, control: ControlService) -> None:
        self._control = control

    async def List(self, request: pb.ListNodesRequest, context: Context) -> pb.ListNodesResponse:  # noqa: N802 - as in the contract, like the rest
        """See ``NodeService.List`` in node.proto."""
        del context
        start = decode_page_token(request.page_token)
        page = await self._control.nodes.page(
            after=start.after, limit=page_size(request.page_size), revision=start.revision
        )
        return pb.ListNodesResponse(
            nodes=[_node_to_pb(node, self._condition(node.id)) for node in page.nodes],
            next_page_token=PageToken(page.last, page.revision).encode(),
            revision=page.revision,
        )

    async def Get(self, request: pb.GetNodeRequest, context: Context) -> pb.Node:  # noqa: N802
        """See ``NodeService.Get`` in node.proto."""
        del context
        node = await self._control.nodes.get(request.node)
        return _node_to_pb(node, self._condition(node.id))

    async def Cordon(self, request: pb.CordonNodeRequest, context: Context) -> pb.Node:  # noqa: N802
        """See ``NodeService.Cordon`` in node.proto."""
        del context
        return await self._set_cordon(request, cordoned=True)

    async def Drain(self, request: pb.DrainNodeRequest, context: Context) -> operation_pb2.Operation:  # noqa: N802
        """See ``NodeService.Drain`` in node.proto."""
        del context
        who = caller()
        committed = await self._control.drains.begin(
            who,
            request.node,
            expected_revision=request.expected_revision,
            repeat=Repeat(who.subject.id, request.request_id, fingerprint_of(request)),
            encode=lambda operation: operation_to_pb(operation).SerializeToString(),
        )
        answer = operation_pb2.Operation.FromString(committed.response)
        answer.revision = committed.revision
        return answer

    async def Uncordon(self, request: pb.UncordonNodeRequest, context: Context) -> pb.Node:  # noqa: N802
        """See ``NodeService.Uncordon`` in node.proto."""
        del context
        return await self._set_cordon(request, cordoned=False)

    async def Remove(self, request: pb.RemoveNodeRequest, context: Context) -> pb.RemoveNodeResponse:  # noqa: N802
        """See ``NodeService.Remove`` in node.proto."""
        del context
        who = caller()
        committed = await self._control.nodes.remove(
            who,
            request.node,
            expected_revision=request.expected_revision,
            repeat=Repeat(who.subject.id, request.request_id, fingerprint_of(request)),
            encode=lambda node: pb.RemoveNodeResponse(node_id=node).SerializeToString(),
        )
        answer = pb.RemoveNodeResponse.FromString(committed.response)
        answer.revision = committed.revision
        self._control.forget(NodeId(answer.node_id))
        return answer

    def _condition(self, node: NodeId) -> Condition | None:
        return self._control.pushes.sharing.condition_of(node)

    async def _set_cordon(
        self, request: pb.CordonNodeRequest | pb.UncordonNodeRequest, *, cordoned: bool
    ) -> pb.Node:
        who = caller()
        committed = await self._control.nodes.cordon(
            who,
            request.node,
            cordoned=cordoned,
            expected_revision=request.expected_revision,
            repeat=Repeat(who.subject.id, request.request_id, fingerprint_of(request)),
            encode=lambda node: _node_to_pb(node).SerializeToString(),
        )
        answer = pb.Node.FromString(committed.response)
        answer.revision = committed.revision
        return answer


def _node_to_pb(node: NodeFacts, condition: Condition | None = None) -> pb.Node:
    record, member = node.record, node.member
    return pb.Node(
        id=node.id,
        name=record.name,
        state=node.standing.value,
        labels=[common_pb2.Label(key=key, value=record.labels[key]) for key in sorted(record.labels)],
        peer_addresses=record.peer_addresses,
        session=node.session,
        instance_id=member.instance_id if member is not None else "",
        cordoned=record.cordoned,
        software_version=member.software_version if member is not None else "",
        platform=member.platform if member is not None else "",
        client_url=member.client_url if member is not None else "",
        models=_models(node.inventory) if member is not None else (),
        push=_push_to_pb(node.push),
        memory_bytes=node.inventory.memory_bytes,
        revision=node.revision,
        silent_s=node.silent_s,
        backends=map(_backend_to_pb, node.inventory.backends),
        founder=record.founder,
        unreachable_reason=node.unreachable_reason,
        cpu=node.inventory.host.cpu,
        cpus=node.inventory.cpus,
        gpus=gpus_to_pb(node.inventory.host.gpus),
        gpus_known=node.inventory.host.gpus is not None,
        disk_bytes=node.inventory.host.disk_bytes,
        gateway_url=node.inventory.host.gateway_url if member is not None else "",
        condition=condition_to_pb(condition) if condition is not None else None,
    )


def _models(inventory: Inventory) -> list[str]:
    served = {
        model.model
        for backend in inventory.backends
        if backend.healthy
        for model in backend.models
        if model.state.ready
    }
    return sorted(served)


def _backend_to_pb(backend: Backend) -> pb.NodeBackend:
    return pb.NodeBackend(
        name=backend.name,
        kind=backend.kind,
        healthy=backend.healthy,
        reason=backend.reason,
        models=[model.name for model in backend.models],
    )


def _push_to_pb(push: PushState) -> pb.PushState:
    return pb.PushState(
        sent=version_to_pb(push.sent),
        acked=version_to_pb(push.acked),
        nacked=version_to_pb(push.nacked),
        nack_reason=push.nack_reason,
    )
