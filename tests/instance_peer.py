"""A caller of an instance manager that is built on gRPC's C core and protoc's code, as control planes are.

    instance_peer.py CODE PORT PROGRAM DIRECTORY [TLS]

CODE: directory with what protoc made of proto/. PORT: the first of the manager's four. PROGRAM: one that may be
started and sleeps for as many seconds as its argument says. Prints "ok" for each passed check, and "done".
"""

import sys
import threading
import time

code, port, sleeper, directory = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
tls = sys.argv[5] if len(sys.argv) > 5 else None
sys.path.insert(0, code)

import grpc  # noqa: E402
from google.protobuf import empty_pb2, message_factory  # noqa: E402
from imrpc import disk_pb2, imrpc_pb2, instance_pb2, proxy_pb2  # noqa: E402

NAME = "longhorn-backend.longhorn-system"
VOLUME_BYTES = 64 << 20
FACTORY = message_factory.MessageFactory()


def channel(offset):
    target = "127.0.0.1:%d" % (port + offset)
    if tls is None:
        return grpc.insecure_channel(target)
    read = lambda name: open("%s/%s" % (tls, name), "rb").read()  # noqa: E731
    credentials = grpc.ssl_channel_credentials(read("ca.crt"), read("tls.key"), read("tls.crt"))
    return grpc.secure_channel(target, credentials, [("grpc.ssl_target_name_override", NAME)])


class Service:
    """The methods of a service, by name."""

    def __init__(self, on, described):
        self.requests = {}
        for method in described.methods:
            request = FACTORY.GetPrototype(method.input_type)
            answer = FACTORY.GetPrototype(method.output_type)
            kind = on.unary_stream if method.server_streaming else on.unary_unary
            path = "/%s/%s" % (described.full_name, method.name)
            setattr(self, method.name, kind(path, request.SerializeToString, answer.FromString))
            self.requests[method.name] = request


manager = Service(channel(0), imrpc_pb2.DESCRIPTOR.services_by_name["ProcessManagerService"])
proxy = Service(channel(1), proxy_pb2.DESCRIPTOR.services_by_name["ProxyEngineService"])
disks = Service(channel(2), disk_pb2.DESCRIPTOR.services_by_name["DiskService"])
instances = Service(channel(3), instance_pb2.DESCRIPTOR.services_by_name["InstanceService"])
EMPTY = empty_pb2.Empty()


def ok(what, condition, more=""):
    if not condition:
        raise AssertionError("%s %s" % (what, more))
    print("ok", what)


def until(what, condition):
    end = time.monotonic() + 60
    while not condition():
        if time.monotonic() > end:
            raise AssertionError("waited in vain for " + what)
        time.sleep(0.05)
    print("ok", what)


def failure(call, request):
    try:
        call(request, timeout=20)
    except grpc.RpcError as error:
        return error.code(), error.details()
    raise AssertionError("the call succeeded")


def create(name, binary, args, ports=0, port_args=()):
    spec = imrpc_pb2.ProcessSpec(name=name, binary=binary, args=args, port_count=ports, port_args=port_args)
    return manager.ProcessCreate(imrpc_pb2.ProcessCreateRequest(spec=spec), timeout=20)


def create_instance(name, kind, args, ports):
    of = instance_pb2.ProcessInstanceSpec(binary="longhorn", args=args)
    spec = instance_pb2.InstanceSpec(
        name=name, type=kind, volume_name="vol", port_count=ports, port_args=["--listen,127.0.0.1:"],
        process_instance_spec=of)
    return instances.InstanceCreate(instance_pb2.InstanceCreateRequest(spec=spec), timeout=20)


def status(name):
    return instances.InstanceGet(instance_pb2.InstanceGetRequest(name=name), timeout=20).status


def delete(name):
    return manager.ProcessDelete(imrpc_pb2.ProcessDeleteRequest(name=name), timeout=20)


# Whoever serves says so, on all four ports.
ok("versions", manager.VersionGet(EMPTY, timeout=20).instanceManagerAPIVersion == 7)
ok("same version", instances.VersionGet(EMPTY, timeout=20) == manager.VersionGet(EMPTY, timeout=20))
ok("disks", disks.VersionGet(EMPTY, timeout=20).instanceManagerDiskServiceAPIVersion == 1)
for name, request in disks.requests.items():
    if name != "VersionGet":
        ok("no " + name, failure(getattr(disks, name), request())[0] == grpc.StatusCode.UNIMPLEMENTED)

# Watches carry what changed.
seen, both = [], []


def watch(call, into):
    try:
        for one in call(EMPTY):
            into.append((one.spec.name, one.status.state, one.status.error_msg, one.deleted))
    except grpc.RpcError:
        pass


for call, into in ((manager.ProcessWatch, seen), (instances.InstanceWatch, both)):
    threading.Thread(target=watch, args=(call, into), daemon=True).start()

# A process that does not listen runs at once; it ends as it is told to.
until("watches", lambda: create("w%d" % time.monotonic_ns(), sleeper, ["1000"]) and seen and both)
create("sleeper", sleeper, ["1000"])
until("running", lambda: status("sleeper").state == "running")
ok("deleted", delete("sleeper").deleted)
until("its end", lambda: ("sleeper", "error", "signal: interrupt", True) in seen)
ok("both watches", ("sleeper", "running", "", False) in both)

# Ports: contiguous, exhausted in words.
code_, text = failure(lambda request, timeout: create("many", sleeper, ["1"], 5000), None)
ok("no ports", code_ == grpc.StatusCode.RESOURCE_EXHAUSTED and "no 5000 free ports in a row" in text, text)
code_, text = failure(lambda request, timeout: create("shell", "/bin/sh", ["-c", "true"]), None)
ok("no shell", code_ == grpc.StatusCode.PERMISSION_DENIED, text)

# A crash loop waits, and says why.
for turn in range(5):
    create("vol-e-9", sleeper, ["nonsense"])
    if turn < 4:
        until("crash %d" % turn, lambda: status("vol-e-9").state == "error")
        ok("words", status("vol-e-9").error_msg == "exit status 1", status("vol-e-9").error_msg)
        delete("vol-e-9")
        until("gone", lambda: "vol-e-9" not in manager.ProcessList(imrpc_pb2.ProcessListRequest()).processes)
    else:
        until("a pause", lambda: "failed 4 times in a row" in status("vol-e-9").error_msg)
        delete("vol-e-9")

# A volume with the command lines of Longhorn's manager.
size = str(VOLUME_BYTES)
for k in (1, 2):
    create_instance("vol-r-%d" % k, "replica", [
        "--volume-name", "vol", "replica", "%s/r%d" % (directory, k), "--size", size, "--disableRevCounter",
        "--replica-instance-name", "vol-r-%d" % k, "--snapshot-max-count", "250", "--snapshot-max-size", "0",
        "--sync-agent-port-count", "7"], 15)
for k in (1, 2):
    until("replica %d" % k, lambda: status("vol-r-%d" % k).state == "running")
starts = [status("vol-r-%d" % k).port_start for k in (1, 2)]
ok("ports in a row", abs(starts[0] - starts[1]) >= 15 and status("vol-r-1").port_end == starts[0] + 14)
create_instance("vol-e-0", "engine", [
    "--volume-name", "vol", "--engine-instance-name", "vol-e-0", "controller", "vol", "--disableRevCounter",
    "--size", size, "--current-size", size, "--engine-replica-timeout", "8", "--file-sync-http-client-timeout",
    "30", "--snapshot-max-count", "250", "--snapshot-max-size", "0"] + [
    word for start in starts for word in ("--replica", "tcp://127.0.0.1:%d" % start)], 1)
until("engine", lambda: status("vol-e-0").state == "running")
engine = proxy_pb2.ProxyEngineRequest(
    address="127.0.0.1:%d" % status("vol-e-0").port_start, engine_name="vol-e-0", volume_name="vol")
volume = proxy.VolumeGet(engine, timeout=20).volume
ok("volume", (volume.name, volume.size, volume.replicaCount) == ("vol", VOLUME_BYTES, 2))
listed = proxy.ReplicaList(engine, timeout=20).replica_list.replicas
ok("modes", [one.mode for one in listed] == [1, 1])
request = proxy_pb2.EngineVolumeSnapshotRequest(proxy_engine_request=engine)
request.snapshot_volume.name = "s1"
request.snapshot_volume.labels["a"] = "b"
ok("snapshot", proxy.VolumeSnapshot(request, timeout=20).snapshot.name == "s1")
found = proxy.SnapshotList(engine, timeout=20).disks
ok("list", found["s1"].user_created and found["s1"].labels["a"] == "b" and "s1" in found["volume-head"].parent)
wrong = proxy_pb2.ProxyEngineRequest(address=engine.address, engine_name="vol-e-1", volume_name="vol")
code_, text = failure(proxy.VolumeGet, wrong)
ok("another engine", code_ == grpc.StatusCode.FAILED_PRECONDITION and "vol-e-1" in text, text)
ok("its log", any("engine ready" in one.line for one in instances.InstanceLog(
    instance_pb2.InstanceLogRequest(name="vol-e-0"), timeout=20)))

# Every method answers: with what it is for, or with words. What needs nothing but an engine works.
GONE = {"ReplicaRebuildingQosSet", "BackupRestoreFinish"} | {n for n in proxy.requests if n.startswith("SPDK")}
for name, kind in proxy.requests.items():
    plain = kind.DESCRIPTOR.full_name == "imrpc.ProxyEngineRequest"
    if name in ("VolumeFrontendShutdown", "ReplicaRemove", "ReplicaAdd"):
        continue
    request = kind(**{field: getattr(engine, field) for field in ("address", "engine_name", "volume_name")}) \
        if plain else kind()
    if "proxy_engine_request" in kind.DESCRIPTOR.fields_by_name:
        request.proxy_engine_request.MergeFromString(engine.SerializeToString())
    try:
        answer = getattr(proxy, name)(request, timeout=20)
        answer = list(answer) if name.endswith("Watch") else answer
        ok("answers " + name, name not in GONE)
    except grpc.RpcError as error:
        there = error.code() != grpc.StatusCode.UNIMPLEMENTED
        words = "%s: %s" % (error.code(), error.details())
        ok("refuses %s: %s" % (name, words), there != (name in GONE) and error.details() and not (plain and there))

# The end in order: the engine first. Each ends well.
for name in ("vol-e-0", "vol-r-1", "vol-r-2"):
    delete(name)
    until("the end of " + name, lambda: (name, "stopped", "", True) in seen)
print("done")
