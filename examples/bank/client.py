"""A client of the bank in Python, through kontiki.v1.Data: copy it and change it.

    client.py ENDPOINT[,ENDPOINT...] open ACCOUNT | mint ACCOUNT AMOUNT | transfer FROM TO AMOUNT
                                     | balance ACCOUNT | total | accounts | audit | load AMOUNT

Prints what the bank says, as JSON. For each line of stdin `load` transfers 1 to AMOUNT between two of
the accounts, and prints how that ended.

Exit status: 0; 1 failed or refused, nothing was changed; 2 wrong usage; 4 unknown, the change may or
may not be made.
"""

import json
import random
import sys
import time

import grpc
from google.rpc.error_details_pb2 import ErrorInfo
from grpc_status import rpc_status

from kontiki.v1 import data_pb2, data_pb2_grpc

FEES = "fees"  # the account that is the bank's own


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

    def call(self, method, request):
        """One answer, wherever that leads. Raises Failed or Unknown within the timeout."""
        deadline, writes = time.monotonic() + self.timeout, method == "Write"
        pause, error = 0.02, Failed("no time was left")
        while (left := deadline - time.monotonic()) > 0:
            leader = None
            try:
                if self.connected(min(left, 1.0)):
                    call = getattr(data_pb2_grpc.DataStub(self.channel), method)
                    return json.loads(call(request, timeout=left if writes else min(left, 2.0)).reply)
                error = Failed(f"cannot connect to {self.address}")
            except grpc.RpcError as status:
                info = error_info(status)
                text = f"{info.reason or status.code().name} at {self.address}: {status.details()}"
                error, leader = Failed(text), info.metadata.get("leader_address")
                if info.metadata.get("outcome") != "FAILED" and writes:
                    self.go_to(random.choice(self.endpoints))
                    raise Unknown(text) from None  # never again: it could be applied twice
                if status.code() in FINAL:
                    raise error from None  # the same again would meet the same
            self.go_to(leader or random.choice(self.endpoints))
            time.sleep(random.uniform(0, pause))
            pause = min(2 * pause, 0.5)
        raise error

    def write(self, **change):
        """What the bank says to `open={"account": "ann"}` and the like."""
        return self.call("Write", data_pb2.WriteRequest(command=json.dumps(change).encode()))

    def ask(self, question):
        """The answer to a question. It reflects every change that was acknowledged before."""
        return self.call("Read", data_pb2.ReadRequest(query=json.dumps(question).encode()))


FINAL = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.UNIMPLEMENTED)


def error_info(error):
    """The detail that every error of Kontiki has; empty for one that something else gave."""
    info = ErrorInfo()
    status = rpc_status.from_call(error)
    for detail in status.details if status else []:
        if detail.Is(ErrorInfo.DESCRIPTOR):
            detail.Unpack(info)
    return info if info.domain == "kontiki.dev" else ErrorInfo()


def accounts(client):
    """Every account and what it holds, page after page; together they are no one moment."""
    after, page = "", [None]
    while page:
        page = client.ask({"accounts": {"after": after, "limit": 1000}})["accounts"]
        yield from page
        after = page[-1][0] if page else after


def load(client, amount):
    """A random transfer for each line of stdin."""
    names = [name for name, _ in accounts(client) if name != FEES]
    for number, _ in enumerate(sys.stdin):
        source, target = random.sample(names, 2)
        change = {"from": source, "to": target, "amount": random.randint(1, amount)}
        try:
            answer = client.write(transfer=change)
            print("failed" if "refused" in answer else "ok", number, json.dumps(answer), flush=True)
        except (Failed, Unknown) as error:
            print(type(error).__name__.lower(), number, error, flush=True)


def main(endpoints, *arguments):
    client = Client(endpoints.split(","))
    match arguments:
        case "open", account:
            answer = client.write(open={"account": account})
        case "mint", account, amount:
            answer = client.write(mint={"account": account, "amount": int(amount)})
        case "transfer", source, target, amount:
            change = {"from": source, "to": target, "amount": int(amount)}
            answer = client.write(transfer=change)
        case "balance", account:
            answer = client.ask({"balance": {"account": account}})
        case ("total" | "audit" as question,):
            answer = client.ask(question)
        case ("accounts",):
            answer = {"accounts": list(accounts(client))}
        case "load", amount:
            load(client, int(amount))
            return 0
        case _:
            print(__doc__, file=sys.stderr)
            return 2
    print(json.dumps(answer))
    return 1 if "refused" in answer else 0


if __name__ == "__main__":
    try:
        sys.exit(main(*(sys.argv[1:] or ["localhost:7400"])))
    except (Failed, Unknown) as error:
        print(f"{type(error).__name__.lower()}: {error}", file=sys.stderr)
        sys.exit(4 if isinstance(error, Unknown) else 1)
