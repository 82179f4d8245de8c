"""Adds the control service's servicers to the control listener."""

from __future__ import annotations

import grpc

from controlplane.rpc.election import ElectionServicer
from controlplane.rpc.event import EventServicer
from controlplane.rpc.model import ModelServicer
from controlplane.rpc.node import NodeServicer
from controlplane.rpc.operation import OperationServicer
from controlplane.rpc.peer import PeerServicer
from controlplane.rpc.route import RouteServicer
from controlplane.rpc.server import service_names
from controlplane.rpc.sidecar import SidecarServicer, add_sidecar_service
from controlplane.services.asked_pulls import AskedPulls
from controlplane.services.control import ControlService
from swarmplane.v1 import (
    election_pb2,
    election_pb2_grpc,
    event_pb2,
    event_pb2_grpc,
    model_pb2,
    model_pb2_grpc,
    node_pb2,
    node_pb2_grpc,
    operation_pb2,
    operation_pb2_grpc,
    peer_pb2,
    peer_pb2_grpc,
    route_pb2,
    route_pb2_grpc,
    sidecar_pb2,
)


def register_control(server: grpc.aio.Server, control: ControlService) -> tuple[str, ...]:
    """Names of the services added to ``server``, which authorizes callers and is not started yet."""
    add_sidecar_service(SidecarServicer(control), server)
    node_pb2_grpc.add_NodeServiceServicer_to_server(NodeServicer(control), server)
    models = ModelServicer(control.catalog, AskedPulls(control.pulls, control.operations))
    model_pb2_grpc.add_ModelServiceServicer_to_server(models, server)
    routes = RouteServicer(control.catalog, control.nodes, control.pushes.questions)
    route_pb2_grpc.add_RouteServiceServicer_to_server(routes, server)
    election_pb2_grpc.add_ElectionServiceServicer_to_server(ElectionServicer(control.elections), server)
    peer_pb2_grpc.add_PeerServiceServicer_to_server(PeerServicer(control.exchange), server)
    event_pb2_grpc.add_EventServiceServicer_to_server(EventServicer(control.events), server)
    operation_pb2_grpc.add_OperationServiceServicer_to_server(OperationServicer(control.operations), server)
    return service_names(
        sidecar_pb2, node_pb2, model_pb2, route_pb2, election_pb2, peer_pb2, event_pb2, operation_pb2
    )
