"""A device plugin as GPU nodes have one: `device_plugin.py FOLDER TABLE`, for `nvidia.com/gpu`.

FOLDER is the kubelet's `device-plugins`, TABLE a json file of each device's health by its id. The kubelet hears of
every change of that file, and all anew after it was restarted. Run by itself: gRPC comes with the engine's packages.

Source: k8s.io/kubelet 0.37.2, pkg/apis/deviceplugin/v1beta1/api.proto and constants.go.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_RESOURCE, _VERSION = "nvidia.com/gpu", "v1beta1"
#: In FOLDER, and named without it: the path of a socket has 107 bytes at most.
_KUBELET, _OURS = Path("kubelet.sock"), Path("gpus.sock")
_LOOK_SECONDS = 0.1
#: As far as they are used: fields in order from 1 on, `*` for repeated ones.
_MESSAGES = {
    "Empty": {},
    "DevicePluginOptions": {},
    "RegisterRequest": {"version": "string", "endpoint": "string", "resource_name": "string"},
    "Device": {"ID": "string", "health": "string"},
    "ListAndWatchResponse": {"devices": "Device*"},
    "ContainerAllocateRequest": {"devices_ids": "string*"},
    "AllocateRequest": {"container_requests": "ContainerAllocateRequest*"},
    "ContainerAllocateResponse": {},
    "AllocateResponse": {"container_responses": "ContainerAllocateResponse*"},
}


def _classes() -> dict[str, Any]:
    """A class of protobuf for each of the messages."""
    file = descriptor_pb2.FileDescriptorProto(name="api.proto", package=_VERSION, syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for number, (field, kind) in enumerate(fields.items(), start=1):
            one = message.field.add(name=field, number=number)
            one.label = one.LABEL_REPEATED if kind.endswith("*") else one.LABEL_OPTIONAL
            one.type = one.TYPE_STRING if kind.startswith("string") else one.TYPE_MESSAGE
            if one.type == one.TYPE_MESSAGE:
                one.type_name = f".{_VERSION}.{kind.removesuffix('*')}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    found = {name: pool.FindMessageTypeByName(f"{_VERSION}.{name}") for name in _MESSAGES}
    return {name: message_factory.GetMessageClass(each) for name, each in found.items()}


_OF = _classes()


class Plugin:
    """What the kubelet asks."""

    def __init__(self) -> None:
        self._devices: dict[str, str] = {}
        self._changed = threading.Condition()

    def know(self, devices: dict[str, str]) -> None:
        """The health of each device from now on, by its id."""
        with self._changed:
            self._devices = devices
            self._changed.notify_all()

    def handlers(self) -> grpc.GenericRpcHandler:
        """What is needed of the service `DevicePlugin`: the kubelet asks for no more where no option says so."""
        methods = {
            "GetDevicePluginOptions": _method(grpc.unary_unary_rpc_method_handler, self._options, "Empty"),
            "ListAndWatch": _method(grpc.unary_stream_rpc_method_handler, self._list_and_watch, "Empty"),
            "Allocate": _method(grpc.unary_unary_rpc_method_handler, self._allocate, "AllocateRequest"),
        }
        return grpc.method_handlers_generic_handler(f"{_VERSION}.DevicePlugin", methods)

    def _options(self, _: Any, context: grpc.ServicerContext) -> Any:
        return _OF["DevicePluginOptions"]()

    def _list_and_watch(self, _: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        told: dict[str, str] | None = None
        context.add_callback(self._wake)
        while context.is_active():
            with self._changed:
                self._changed.wait_for(lambda told=told: self._devices != told or not context.is_active())
                told = self._devices
            devices = [_OF["Device"](ID=device, health=health) for device, health in told.items()]
            yield _OF["ListAndWatchResponse"](devices=devices)

    def _allocate(self, request: Any, context: grpc.ServicerContext) -> Any:
        """No container of the tests needs anything to have its device."""
        nothing = _OF["ContainerAllocateResponse"]()
        return _OF["AllocateResponse"](container_responses=[nothing for _ in request.container_requests])

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()


def _method(kind: Any, method: Any, request: str) -> grpc.RpcMethodHandler:
    return kind(
        method,
        request_deserializer=_OF[request].FromString,
        response_serializer=lambda answer: answer.SerializeToString(),
    )


def _serve(plugin: Plugin) -> grpc.Server:
    """On a socket of our own: a kubelet that starts removes the old one."""
    _OURS.unlink(missing_ok=True)
    server = grpc.server(ThreadPoolExecutor(max_workers=4), handlers=[plugin.handlers()])
    server.add_insecure_port(f"unix:{_OURS}")
    server.start()
    return server


def _register() -> None:
    request = _OF["RegisterRequest"](version=_VERSION, endpoint=_OURS.name, resource_name=_RESOURCE)
    # what a unix socket's path would be sent as is no host
    options = [("grpc.default_authority", "localhost")]
    with grpc.insecure_channel(f"unix:{_KUBELET}", options=options) as channel:
        register = channel.unary_unary(
            f"/{_VERSION}.Registration/Register",
            request_serializer=lambda asked: asked.SerializeToString(),
            response_deserializer=_OF["Empty"].FromString,
        )
        register(request, timeout=10)


def _kubelet() -> tuple[int, int] | None:
    """Which one listens: each makes its socket anew."""
    with contextlib.suppress(FileNotFoundError):
        found = _KUBELET.stat()
        return found.st_ino, found.st_ctime_ns
    return None


def main(folder: str, table: str) -> None:
    """Until it is killed."""
    os.chdir(folder)
    plugin, server, known = Plugin(), None, None
    while True:
        plugin.know(json.loads(Path(table).read_text()))
        if (kubelet := _kubelet()) not in (None, known):
            if server is not None:
                server.stop(grace=None).wait()
            server = _serve(plugin)
            try:
                _register()
                known = kubelet
            except grpc.RpcError as error:
                print(error, file=sys.stderr, flush=True)  # noqa: T201 - its log; it does not listen yet
        time.sleep(_LOOK_SECONDS)


if __name__ == "__main__":
    main(*sys.argv[1:])
