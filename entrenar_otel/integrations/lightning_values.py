"""Lightning values: what a training tells of each batch: logged metrics, loss, learning rates, gradients."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from entrenar_processors.metric_names import TRAIN, facade_name, known_as


class BatchValues:
    """What there is to record of a batch, and what `self.log` was given at other times.

    A Trainer's metrics keep a value until the next one: of a metric that is logged every tenth batch, the
    other nine show the old one. A value is a tensor of its own, and one that is held keeps its place in
    memory: another place is another value.
    """

    def __init__(self) -> None:
        self._held: dict[str, Any] = {}
        self._groups: list[tuple[str, dict[str, Any]]] = []

    def begin_epoch(self, optimizers: Sequence[Any]) -> None:
        """Optimizers may have other parameter groups than before."""
        self._groups = parameter_groups(optimizers)

    def logged(self, trainer: Any) -> dict[str, Any]:
        """The metrics that were logged since the last call; tensors, wherever they are."""
        found = {}
        for name, value in trainer.logged_metrics.items():
            last = self._held.get(name)
            if last is None or last.data_ptr() != value.data_ptr():
                self._held[name] = found[name] = value
        return found

    def batch(self, trainer: Any, pl_module: Any, outputs: Any) -> dict[str, Any]:
        """Loss, metrics and learning rates after a batch, without a split: that is what an epoch's have."""
        values = {name: group["lr"] for name, group in self._groups}
        loss = loss_of(trainer, pl_module, outputs)
        if loss is not None:
            values["loss"] = loss
        for raw, value in self.logged(trainer).items():
            name = facade_name(raw)[0]
            if name != "loss":
                values[raw if name in values else name] = value
            elif loss is None or not is_training_loss(raw):
                values.setdefault(name if is_training_loss(raw) else raw, value)
        return values


def is_training_loss(name: str) -> bool:
    """Whether a metric is the loss that a training step returns, by a name of its own.

    >>> [is_training_loss(name) for name in ("train_loss_step", "loss", "val_loss", "aux_loss")]
    [True, True, False, False]
    """
    known, split = known_as(name)
    return known == "loss" and split in (None, TRAIN)


def loss_of(trainer: Any, pl_module: Any, outputs: Any) -> Any:
    """The loss of a batch as `training_step` returned it, on its device; None where it returned none."""
    loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
    if loss is None or not hasattr(loss, "detach"):
        return loss
    loss = loss.detach()
    # In automatic optimisation Lightning has divided it, for the sum of gradients.
    batches = trainer.accumulate_grad_batches if pl_module.automatic_optimization else 1
    return loss if batches == 1 else loss * batches


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
