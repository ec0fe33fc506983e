"""Lightning values: what a training tells of each batch: logged metrics, loss, learning rates, gradients."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from entrenar_processors.metric_names import TRAIN, facade_name, known_as

from entrenar_otel.integrations.lightning_logged import LoggedMetrics
from entrenar_otel.integrations.metric_group import host_number

#: Beyond so many sets of names, new ones are looked at anew each time.
_MAX_NAMES = 256


class BatchValues:
    """What there is to record of a batch, and what `self.log` was given at other times."""

    def __init__(self) -> None:
        self._logged = LoggedMetrics()
        #: The metrics that were logged since the last call; tensors, wherever they are.
        self.logged = self._logged.new
        self._groups: list[tuple[str, dict[str, Any]]] = []
        self._names: dict[tuple[object, ...], list[tuple[str, str]]] = {}

    def begin_epoch(self, optimizers: Sequence[Any]) -> None:
        """Optimizers may have other parameter groups than before."""
        self._logged.begin_epoch()
        self._groups = parameter_groups(optimizers)
        self._names.clear()

    def batch(self, trainer: Any, pl_module: Any, outputs: Any) -> dict[str, Any]:
        """Loss, metrics and learning rates after a batch, without a split: that is what an epoch's have.

        What is on the host is a number already.
        """
        values = {}
        for name, group in self._groups:
            values[name] = group["lr"]
        loss = loss_of(trainer, pl_module, outputs)
        if loss is not None:
            values["loss"] = loss
        found = self._logged.new_of_batch(trainer)
        key = (loss is None, *found)
        if (names := self._names.get(key)) is None:
            names = _names_of(found, {*values}, has_loss=loss is not None)
            if len(self._names) < _MAX_NAMES:
                self._names[key] = names
        for raw, name in names:
            value = found[raw]
            values[name] = value.item() if value.is_cpu else value  # Lightning logs single numbers only
        return values


def _names_of(raws: Iterable[str], taken: set[str], *, has_loss: bool) -> list[tuple[str, str]]:
    """Of each logged metric that is told beside those names, its own and the one that it gets."""
    names = []
    for raw in raws:
        name = facade_name(raw)[0]
        if name != "loss":
            name = raw if name in taken else name
        elif has_loss and is_training_loss(raw):
            continue  # it is the loss that the step has returned
        elif (name := name if is_training_loss(raw) else raw) in taken:
            continue
        taken.add(name)
        names.append((raw, name))
    return names


def is_training_loss(name: str) -> bool:
    """Whether a metric is the loss that a training step returns, by a name of its own.

    >>> [is_training_loss(name) for name in ("train_loss_step", "loss", "val_loss", "aux_loss")]
    [True, True, False, False]
    """
    known, split = known_as(name)
    return known == "loss" and split in (None, TRAIN)


def loss_of(trainer: Any, pl_module: Any, outputs: Any) -> Any:
    """The loss of a batch as `training_step` returned it: a number where it is on the host, else where it is.

    None where it returned none.
    """
    loss: Any = outputs.get("loss") if type(outputs) is dict or isinstance(outputs, Mapping) else outputs
    batches = trainer.accumulate_grad_batches
    if batches != 1 and hasattr(loss, "detach") and pl_module.automatic_optimization:
        # Lightning has divided it, for the sum of gradients.
        loss = loss.detach() * batches
    if (number := host_number(loss)) is loss and getattr(loss, "requires_grad", False):
        return loss.detach()
    return number


def parameter_groups(optimizers: Sequence[Any]) -> list[tuple[str, dict[str, Any]]]:
    """The optimizers' parameter groups, by the names that their learning rates have in Lightning.

    `lr-SGD`, of another of that kind `lr-SGD-1`, of several groups `lr-SGD/pg2`; the only one is `lr`.
    """
    groups: list[tuple[str, dict[str, Any]]] = []
    kinds = Counter[str]()
    for optimizer in optimizers:
        kind = type(optimizer).__name__
        name = f"lr-{kind}"
        if kinds[kind]:
            name += f"-{kinds[kind]}"
        kinds[kind] += 1
        several = len(optimizer.param_groups) > 1
        for number, group in enumerate(optimizer.param_groups, 1):
            groups.append((f"{name}/{group.get('name') or f'pg{number}'}" if several else name, group))
    return [("lr", groups[0][1])] if len(groups) == 1 else groups


def gradient_norm(optimizer: Any) -> Any:
    """The 2-norm of an optimizer's gradients together, on their device; None where it has none."""
    import torch

    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    gradients = [parameter.grad.detach() for parameter in parameters if parameter.grad is not None]
    if not gradients:
        return None
    norms = torch._foreach_norm(gradients)
    return torch.linalg.vector_norm(torch.stack([norm.to(norms[0].device) for norm in norms]))
