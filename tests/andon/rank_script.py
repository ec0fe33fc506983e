"""One rank of a small training, as a program: `rank_script.py CASE BACKEND`, RANK and WORLD_SIZE given.

BACKEND is `gloo` (PyTorch's) or `pipe`: a socket to the one other rank, which like gloo waits for the
other and fails when it has left. Every line of its output is one JSON value.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from entrenar_otel import AndonStop, Monitor
from entrenar_otel.andon import AndonConfig

RANK = int(os.environ.get("RANK", "0"))
STEPS, BAD = 40, 5


def say(*what: Any) -> None:
    os.write(1, (json.dumps(what) + "\n").encode())


class Pipe:
    """Two ranks at the ends of a socket."""

    def __init__(self) -> None:
        self.socket = socket.socket(fileno=int(os.environ["PEER"]))
        self.weight = 1.0

    def gather(self, value: float) -> tuple[float, float]:
        try:
            self.socket.sendall(struct.pack("d", value))
            data = self.socket.recv(8, socket.MSG_WAITALL)
        except OSError as error:
            raise RuntimeError("the peer has left") from error
        if len(data) < 8:
            raise RuntimeError("the peer has left")
        (other,) = struct.unpack("d", data)
        return value, float(other)

    def any_rank(self, mine: bool) -> bool:
        return max(self.gather(float(mine))) > 0

    def barrier(self) -> None:
        self.gather(0.0)

    def train(self) -> float:
        gradients = self.gather(self.weight / 10)
        self.weight -= sum(gradients) / 2
        return self.weight**2

    def leave(self) -> None:
        self.socket.close()


class Gloo:
    """A linear model whose gradients are averaged, as DistributedDataParallel does."""

    def __init__(self) -> None:
        import torch
        import torch.distributed

        self.torch, self.distributed = torch, torch.distributed
        torch.set_num_threads(1)
        torch.distributed.init_process_group("gloo", timeout=timedelta(seconds=50))
        torch.manual_seed(0)
        self.model = torch.nn.Linear(4, 1)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)

    def any_rank(self, mine: bool) -> bool:
        wanted = self.torch.tensor(float(mine))
        self.distributed.all_reduce(wanted, op=self.distributed.ReduceOp.MAX)
        return bool(wanted)

    def barrier(self) -> None:
        self.distributed.barrier()

    def train(self) -> float:
        x = self.torch.randn(8, 4)
        self.optimizer.zero_grad()
        loss = (self.model(x) - x.sum(1, keepdim=True)).square().mean()
        loss.backward()
        for parameter in self.model.parameters():
            assert parameter.grad is not None
            self.distributed.all_reduce(parameter.grad)
            parameter.grad /= self.distributed.get_world_size()
        self.optimizer.step()
        return float(loss.detach())

    def leave(self) -> None:
        self.distributed.destroy_process_group()


def main(case: str, backend: str, agreement: str) -> None:
    group = Gloo() if backend == "gloo" else Pipe()

    def any_rank(mine: bool) -> bool:
        if case == "agree fails" and mine:
            raise TypeError("agree is wrong")
        return group.any_rank(mine)

    agrees = agreement == "agree"
    settings: dict[str, Any] = {"alerting": AndonConfig(agree=any_rank) if agrees else None}
    if case == "no lake on 0" and RANK == 0:
        settings["lake"] = "/proc/nowhere"
    monitor = Monitor.auto(interval_seconds=0.05, **settings)
    register(monitor, case, group)
    step = -1
    try:
        with monitor:
            for step in range(100_000 if case in ("ruled", "command") else STEPS):
                if case != "uneven":
                    loss = group.train()
                elif RANK == 1 and step == BAD:
                    break
                else:
                    loss = 0.5
                log(monitor, case, step, loss)
                if agrees:
                    ask(monitor, case, step)
            if case == "after the loop" and RANK == 1:
                monitor.log(loss=float("nan"), step=step)
            say("ended", step)
    except AndonStop as stop:
        say("AndonStop", step, str(stop), stop.incident)
    except Exception as error:
        say(type(error).__name__, step)
        raise
    if agrees and case not in ("agree fails", "uneven"):
        group.leave()


def register(monitor: Monitor, case: str, group: Pipe | Gloo) -> None:
    def together(occasion: str) -> Callable[..., None]:
        def call(*_: Any) -> None:
            if case == "callback fails" and RANK == 1:
                raise ValueError("not on this rank")
            group.barrier()
            say("together", occasion)

        return call

    def alone(occasion: str) -> Callable[..., None]:
        return lambda *_: say("alone", occasion)

    for occasion in ("alert", "reduce_lr", "stop"):
        monitor.on(occasion, together(occasion))
        monitor.on(occasion, alone(occasion), local=True)
    if case == "callback stops" and RANK == 1:
        monitor.on("alert", stop_it, local=True)


def stop_it(alert: Any) -> None:
    raise AndonStop(f"a callback stops for {alert.name}")


def log(monitor: Monitor, case: str, step: int, loss: float) -> None:
    bad = ("nan on 1", "callback fails", "agree fails", "no lake on 0", "goes on", "raises")
    if step >= BAD and (case == "nan on both" or (case in bad and RANK == 1)):
        loss = float("nan")
    low = step >= BAD and ((case == "ruled" and RANK == 0) or (case == "callback stops" and RANK == 1))
    monitor.log(loss=loss, accuracy=0.1 if low else 0.9, step=step)
    if case in ("ruled", "command", "callback stops"):
        time.sleep(0.01)  # a tick comes by
    if step == BAD:
        say("logged", step)
        if case == "raises" and RANK == 1:
            raise KeyError("this rank's own")


def ask(monitor: Monitor, case: str, step: int) -> None:
    try:
        monitor.raise_if_stopped()
    except AndonStop:
        if case != "goes on" or step > BAD:
            raise
        say("went on", step)


if __name__ == "__main__":
    main(*sys.argv[1:])
