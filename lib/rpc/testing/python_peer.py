"""A gRPC peer built on the C core, to test against.

    python_peer.py client TARGET    checks a server of ours; all it knows of our messages comes by reflection
    python_peer.py server TARGET    learns the messages of TARGET by reflection, serves, prints the port

Prints "ok" for each passed check and "done" at the end, and fails with a traceback otherwise.
"""

import json
import sys
from concurrent import futures

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, empty_pb2, message_factory

REFLECTION = "grpc.reflection.v1alpha.ServerReflection"


def reflection_messages():
    """The two messages of the reflection protocol, as far as they are needed to ask for files and services."""
    file = descriptor_pb2.FileDescriptorProto(name="r.proto", package="r", syntax="proto3")

    def message(name, *fields):
        type_ = file.message_type.add(name=name)
        for field, number, kind, label in fields:
            entry = type_.field.add(name=field, number=number, label=label)
            if isinstance(kind, str):
                entry.type, entry.type_name = 11, ".r." + kind
            else:
                entry.type = kind

    message("Request", ("symbol", 4, 9, 1), ("list", 7, 9, 1))
    message("Files", ("file", 1, 12, 3))
    message("Service", ("name", 1, 9, 1))
    message("Services", ("service", 1, "Service", 3))
    message("Response", ("files", 4, "Files", 1), ("services", 6, "Services", 1))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    factory = message_factory.MessageFactory(pool)
    return [factory.GetPrototype(pool.FindMessageTypeByName("r." + name)) for name in ("Request", "Response")]


class Reflected:
    """The services of a server and their messages."""

    def __init__(self, channel):
        request, response = reflection_messages()
        call = channel.stream_stream(
            "/%s/ServerReflectionInfo" % REFLECTION, request.SerializeToString, response.FromString
        )
        listed = list(call(iter([request(list="*")])))
        self.services = [service.name for service in listed[0].services.service]
        self.pool = descriptor_pool.DescriptorPool()
        seen = set()
        answers = call(iter([request(symbol=name) for name in self.services if name.startswith("ptypes.")]))
        for answer in answers:
            files = [descriptor_pb2.FileDescriptorProto.FromString(data) for data in answer.files.file]
            for file in reversed(files):  # imported files come last
                if file.name not in seen:
                    seen.add(file.name)
                    self.pool.Add(file)
        self.factory = message_factory.MessageFactory(self.pool)

    def message(self, name):
        return self.factory.GetPrototype(self.pool.FindMessageTypeByName(name))

    def methods(self, service):
        for method in self.pool.FindServiceByName(service).methods:
            kinds = [self.factory.GetPrototype(kind) for kind in (method.input_type, method.output_type)]
            yield method.name, kinds[0], kinds[1]

    def call(self, channel, service, name):
        for method, request, response in self.methods(service):
            if method == name:
                path = "/%s/%s" % (service, name)
                return channel.unary_unary(path, request.SerializeToString, response.FromString), request
        raise KeyError(name)


def ok(what, condition):
    if not condition:
        raise AssertionError(what)
    print("ok", what)


def failure(call, *args, **options):
    try:
        call(*args, **options)
    except grpc.RpcError as error:
        return error.code(), error.details()
    raise AssertionError("the call succeeded")


def client(target):
    with grpc.insecure_channel(target) as channel:
        known = Reflected(channel)
        ok("services", {"ptypes.ReplicaService", "grpc.health.v1.Health", REFLECTION} <= set(known.services))
        service = "ptypes.ReplicaService"

        get, request = known.call(channel, service, "ReplicaGet")
        replica = get(request(), timeout=10).replica
        ok("strings", replica.head == "volume-head-001.img" and list(replica.chain) == ["a", "b"])
        ok("64 bits", replica.revision_counter == 2**53 - 1 and replica.head_file_size == -(2**53 - 1))
        ok("nanoseconds", replica.last_modify_time == 1763771234567891200)
        ok("maps", dict(replica.disks["x"].children) == {"y": True} and replica.disks["x"].labels["k"] == "ü")
        ok("own fields", replica.drover_features == 5 and list(replica.drover.members) == ["r1", "r2"])

        snapshot, request = known.call(channel, service, "ReplicaSnapshot")
        sent = request(name="s", user_created=True, created="now", labels={"a": "b"})
        ok("echo", json.loads(snapshot(sent, timeout=10).replica.state) == {
            "name": "s", "userCreated": True, "created": "now", "labels": {"a": "b"}})

        fail, request = known.call(channel, service, "ReplicaRevert")
        ok("plain error", failure(fail, request(name="plain"), timeout=10)
           == (grpc.StatusCode.UNKNOWN, "replica is already open"))
        ok("typed error", failure(fail, request(name="typed"), timeout=10)
           == (grpc.StatusCode.NOT_FOUND, "ü\n100 %"))
        code, details = failure(fail, request(name="rollback"), timeout=10)
        ok("rollback", code == grpc.StatusCode.INTERNAL
           and json.loads(details)["code"] == "FunctionFailedWithoutRollback")
        ok("long error", len(failure(fail, request(name="long"), timeout=10)[1]) == 4096)
        ok("unimplemented", failure(known.call(channel, service, "ReplicaReload")[0], empty_pb2.Empty(), timeout=10)[0]
           == grpc.StatusCode.UNIMPLEMENTED)
        ok("deadline", failure(fail, request(name="wait"), timeout=0.2)[0] == grpc.StatusCode.DEADLINE_EXCEEDED)
        meant = (("volume-name", "other"),)
        ok("identity", failure(get, empty_pb2.Empty(), timeout=10, metadata=meant)
           == (grpc.StatusCode.FAILED_PRECONDITION, "incorrect volume name other; check replica address"))
        ok("own identity", get(empty_pb2.Empty(), timeout=10, metadata=(("volume-name", "vol"),)).replica.size == "7")
        ok("too large", failure(snapshot, type(sent)(name="x" * (5 << 20)), timeout=10)[0]
           == grpc.StatusCode.RESOURCE_EXHAUSTED)

        watch = channel.unary_stream("/grpc.health.v1.Health/Watch", lambda data: data, lambda data: data)(b"", timeout=10)
        ok("health", next(watch) == b"\x08\x01")
        watch.cancel()

        with futures.ThreadPoolExecutor(8) as threads:
            sizes = threads.map(lambda _: get(empty_pb2.Empty(), timeout=30).replica.size, range(200))
            ok("many at a time", set(sizes) == {"7"})
    for _ in range(5):
        with grpc.insecure_channel(target) as channel:
            call = channel.unary_unary("/grpc.health.v1.Health/Check", lambda data: data, lambda data: data)
            ok("new connection", call(b"", timeout=10) == b"\x08\x01")
    print("done")


def server(reflect):
    with grpc.insecure_channel(reflect) as channel:
        known = Reflected(channel)

    def volume_get(_request, _context):
        return known.message("ptypes.Volume")(name="vol", size=2**53 - 1, replicaCount=3, last_expansion_error="ü")

    def volume_start(request, _context):
        return known.message("ptypes.Volume")(name=",".join(request.replicaAddresses), size=request.size)

    def volume_revert(request, context):
        if request.name == "plain":
            raise ValueError("a plain error")
        context.abort(grpc.StatusCode.INTERNAL, '{"code":"ResultUnknown","message":"m","rollbackMessage":""}')

    def volume_expand(_request, _context):
        return known.message("ptypes.Volume")(size=2**60)

    def metrics_get(_request, context):
        pairs = dict(context.invocation_metadata())
        context.abort(grpc.StatusCode.ABORTED, pairs.get("volume-name", "") + "/" + pairs.get("instance-name", ""))

    offered = {"VolumeGet": volume_get, "VolumeStart": volume_start, "VolumeRevert": volume_revert,
               "VolumeExpand": volume_expand, "MetricsGet": metrics_get}
    handlers = {
        name: grpc.unary_unary_rpc_method_handler(offered[name], request.FromString, response.SerializeToString)
        for name, request, response in known.methods("ptypes.ControllerService") if name in offered
    }
    peer = grpc.server(futures.ThreadPoolExecutor(4))
    peer.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("ptypes.ControllerService", handlers),))
    print("port", peer.add_insecure_port("127.0.0.1:0"), flush=True)
    peer.start()
    peer.wait_for_termination()


if __name__ == "__main__":
    {"client": client, "server": server}[sys.argv[1]](sys.argv[2])
