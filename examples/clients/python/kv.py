"""A client of kontiki.kv.v1.Kv in Python: copy `Client` and change it. The README has the rules.

    kv.py ENDPOINT[,ENDPOINT...] put KEY VALUE | get KEY | cas KEY VALUE REVISION | delete KEY
                                 | range [START [END [PAGE]]] | fill PREFIX | count KEY

For each line of stdin `fill` stores it under PREFIX0, PREFIX1, ..., and `count` adds 1 to a number.
"""

import random
import sys
import time
import uuid

import grpc
from google.rpc.error_details_pb2 import ErrorInfo
from grpc_status import rpc_status

from kontiki.kv.v1 import kv_pb2, kv_pb2_grpc


class Failed(Exception):
    """It was not applied, and will not be."""


class Unknown(Exception):
    """It may have been applied, or may be yet."""


class Client:
    """Speaks to one server at a time: the leader, once a redirect or chance has led there."""

    def __init__(self, endpoints, timeout=10.0):
        self.endpoints, self.timeout = endpoints, timeout
        self.go_to(random.choice(endpoints))

    def go_to(self, address):
        # The old channel ends with its last reference: a thread of its own may still look at it.
        self.address, self.channel = address, grpc.insecure_channel(address)

    def connected(self, patience):
        """Whether there is a connection. As long as that fails, nothing was sent."""
        ready = grpc.channel_ready_future(self.channel)
        try:
            ready.result(patience)
            return True
        except grpc.FutureTimeoutError:
            ready.cancel()
            return False

    def call(self, method, request, deadline=None):
        """One answer, wherever that leads. Raises Failed or Unknown by the deadline."""
        deadline = deadline or time.monotonic() + self.timeout
        pause, error = 0.02, Failed("no time was left")
        while (left := deadline - time.monotonic()) > 0:
            leader = None
            try:
                if self.connected(min(left, 1.0)):
                    call = getattr(kv_pb2_grpc.KvStub(self.channel), method)
                    return call(request, timeout=left if is_write(method) else min(left, 2.0))
                error = Failed(f"cannot connect to {self.address}")
            except grpc.RpcError as status:
                info = error_info(status)
                text = f"{info.reason or status.code().name} at {self.address}: {status.details()}"
                error, leader = Failed(text), info.metadata.get("leader_address")
                if info.metadata.get("outcome") != "FAILED" and is_write(method):
                    self.go_to(random.choice(self.endpoints))
                    raise Unknown(text) from None  # never again: it could be applied twice
                if status.code() in FINAL or info.reason in ("WRONG_MACHINE", "WRONG_CLUSTER"):
                    raise error from None  # the same again would meet the same
            self.go_to(leader or random.choice(self.endpoints))
            time.sleep(random.uniform(0, pause))
            pause = min(2 * pause, 0.5)
        raise error

    def get(self, key):
        """The KeyValue, or None; and the cluster that its revision is of."""
        answer = self.call("Get", kv_pb2.GetRequest(key=key))
        return answer.kv if answer.found else None, answer.cluster_id

    def put(self, key, value):
        """The revision of the write. After Unknown only the caller can tell what to do."""
        return self.call("Put", kv_pb2.PutRequest(key=key, value=value)).revision

    def delete(self, key):
        """Whether the key was there."""
        return self.call("Delete", kv_pb2.DeleteRequest(key=key)).deleted

    def cas(self, key, value, revision, cluster_id=""):
        """Stores if the key is at `revision` (0: absent): (the new revision, None), or (None, the
        KeyValue that is there). An unknown outcome is found out by asking again: of all copies at
        most one is done. For that nobody else may store this value: put something unique in it.
        The revision is of `cluster_id`, and another cluster refuses it; "": whichever is there.
        """
        deadline, doubt = time.monotonic() + self.timeout, None
        request = kv_pb2.PutRequest(
            key=key, value=value, if_mod_revision=revision, cluster_id=cluster_id)
        while True:
            try:
                answer = self.call("Put", request, deadline)
            except Unknown as error:
                doubt = error
                time.sleep(random.uniform(0, 0.2))
                continue
            except Failed as error:  # this copy; an earlier one may have been done
                raise doubt or error
            if not answer.mismatch:
                return answer.revision, None
            current = answer.current if answer.HasField("current") else None
            if doubt and current and current.value == value:
                return current.mod_revision, None  # an earlier copy was done
            if doubt:
                raise doubt  # not done, or done and overwritten since
            return None, current

    def range(self, start=b"", end=b"", page=1000):
        """Every KeyValue of the range in key order. The pages together are no snapshot."""
        request = kv_pb2.RangeRequest(start=start, end=end, limit=page)
        while True:
            answer = self.call("Range", request)
            yield from answer.kvs
            if not answer.continuation:
                return
            request = kv_pb2.RangeRequest(continuation=answer.continuation, limit=page)


FINAL = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.UNIMPLEMENTED)


def is_write(method):
    return method in ("Put", "Delete")


def error_info(error):
    """The detail that every error of Kontiki has; empty for one that something else gave."""
    info = ErrorInfo()
    status = rpc_status.from_call(error)
    for detail in status.details if status else []:
        if detail.Is(ErrorInfo.DESCRIPTOR):
            detail.Unpack(info)
    return info if info.domain == "kontiki.dev" else ErrorInfo()


def increment(client, key):
    """Adds 1 to a number by compare-and-set; raises Unknown if it may have been added."""
    while True:
        old, cluster_id = client.get(key)
        number = int(old.value.split()[0]) if old else 0
        value = f"{number + 1} {uuid.uuid4()}".encode()
        if client.cas(key, value, old.mod_revision if old else 0, cluster_id)[0]:
            return number + 1


def each_line(work):
    """Does something for each line of stdin and prints how it ended, whatever happens."""
    for number, line in enumerate(sys.stdin):
        try:
            print("ok", number, work(number, line.strip().encode()), flush=True)
        except (Failed, Unknown) as error:
            print(type(error).__name__.lower(), number, error, flush=True)


def main(endpoints, command, *arguments):
    client, arguments = Client(endpoints.split(",")), [a.encode() for a in arguments]
    match command, *arguments:
        case "put", key, value:
            print(client.put(key, value))
        case "get", key:
            found, _ = client.get(key)
            if not found:
                return 3
            print(found.mod_revision, found.value.decode())
        case "cas", key, value, revision:
            revision, current = client.cas(key, value, int(revision))
            if not revision:
                there = (current.mod_revision, current.value.decode()) if current else (0,)
                print("mismatch", *there)
                return 5
            print(revision)
        case "delete", key:
            print("deleted" if client.delete(key) else "was not there")
        case "range", *bounds if len(bounds) <= 3:
            for kv in client.range(*bounds[:2], *map(int, bounds[2:])):
                print(kv.key.decode(), kv.value.decode())
        case "fill", prefix:
            each_line(lambda number, line: client.put(b"%s%d" % (prefix, number), line))
        case "count", key:
            each_line(lambda *_: increment(client, key))
        case _:
            print(__doc__, file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    try:
        sys.exit(main(*sys.argv[1:]))
    except (Failed, Unknown) as error:
        print(f"{type(error).__name__.lower()}: {error}", file=sys.stderr)
        sys.exit(4 if isinstance(error, Unknown) else 1)
