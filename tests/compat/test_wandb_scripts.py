"""W&B's calls as public scripts make them: each pattern is that of a well-known one."""

from __future__ import annotations

import argparse
import json

import numpy as np

from entrenar_otel import Lake
from entrenar_otel.compat import wandb
from tests.compat.wandb_lake import QUIET, curve, event, only_run


def test_the_loop_of_the_quick_start() -> None:
    """`init` with a project and a configuration, `log` of two numbers per epoch, `finish`."""
    run = wandb.init(
        entity="team", project="digits", config={"learning_rate": 0.02, "epochs": 3}, settings=QUIET
    )
    for epoch in range(2, 10):
        run.log({"acc": 1 - 2**-epoch, "loss": 2**-epoch})
    run.finish()
    assert curve("loss") == [(i, 2.0 ** -(i + 2)) for i in range(8)]
    assert only_run()["model_id"] == "digits"
    assert only_run()["state"] == "completed"
    assert json.loads(only_run()["config"]) == {"epochs": 3, "learning_rate": 0.02}
    assert event("training.run.labelled") == {"entity": "team", "project": "digits"}


def test_arguments_as_configuration_and_steps_of_its_own() -> None:
    """As trainers of language models do: `config=vars(args)`, `step=iteration`, names with slashes."""
    args = argparse.Namespace(lr=6e-4, batch_size=12, compile=True)
    wandb.init(project="gpt", name="gpt2 - run 1", config=vars(args), settings=QUIET)
    for iteration in range(0, 500, 100):
        wandb.log(
            {
                "iter": iteration,
                "train/loss": 4.0 - iteration / 500,
                "val/loss": np.float32(0.5),
                "lr": args.lr,
                "mfu": -100.0,
            },
            step=iteration,
        )
    wandb.finish()
    assert [step for step, _ in curve("train/loss")] == [0, 100, 200, 300, 400]
    assert {value for _, value in curve("val/loss")} == {0.5}
    assert only_run()["run_id"].startswith("gpt2 - run 1-")


def test_attributes_of_the_configuration_and_a_row_in_parts() -> None:
    """As examples of vision do: `wandb.config.x = …` after `init`, `watch`, images, `commit=False`."""
    wandb.init(project="mnist", settings=QUIET)
    config = wandb.config
    config.batch_size = 64
    config.update({"epochs": 2}, allow_val_change=True)
    wandb.watch(object(), log="all")
    for epoch in range(config.epochs):
        wandb.log(
            {"examples": [wandb.Image(np.zeros((2, 2)), caption="a")], "test": {"loss": 0.1 * epoch}},
            commit=False,
        )
        wandb.log({"accuracy": 90 + epoch})
    wandb.summary["best_accuracy"] = 91
    wandb.save("model.h5")
    wandb.finish()
    assert curve("test.loss") == [(0, 0.0), (1, 0.1)]
    assert curve("accuracy") == [(0, 90.0), (1, 91.0)]
    assert json.loads(only_run()["config"]) == {"batch_size": 64, "epochs": 2}
    assert event("training.run.summary") == {"best_accuracy": "91"}


def test_metrics_with_axes_of_their_own() -> None:
    """As reinforcement learning does: `define_metric`, a global step in each row."""
    run = wandb.init(project="ppo", settings=QUIET)
    run.define_metric("global_step")
    run.define_metric("charts/*", step_metric="global_step", summary="max,mean")
    for update in range(4):
        wandb.log(
            {"global_step": update * 128, "charts/return": [3.0, 9.0, 6.0, 2.0][update], "losses/value": 0.1}
        )
    assert dict(run.summary) == {
        "global_step": 384.0, "charts/return.max": 9.0, "charts/return.mean": 5.0, "losses/value": 0.1,
    }  # fmt: skip
    wandb.finish()
    assert curve("charts/return") == [(0, 3.0), (128, 9.0), (256, 6.0), (384, 2.0)]
    assert [step for step, _ in curve("losses/value")] == [0, 1, 2, 3]


def test_a_context_with_artefacts_and_tables() -> None:
    """As pipelines do: `with wandb.init(job_type=…) as run`, artefacts, tables, epochs."""
    with wandb.init(
        project="p", job_type="train", group="g", tags=["a", "b"], notes="n", settings=QUIET
    ) as run:
        artifact = wandb.Artifact("model", type="model", metadata={"x": 1})
        artifact.add_file("model.pt")
        with artifact.new_file("notes.txt") as file:
            file.write("x")
        table = wandb.Table(columns=["a"], data=[[1]])
        table.add_data(2)
        for epoch in range(2):
            run.log({"epoch": epoch, "train": {"loss": 0.5, "deep": {"x": 1}}, "predictions": table})
        run.log_artifact(artifact).wait()
    epochs = Lake("lake").query("SELECT DISTINCT epoch FROM metrics WHERE metric = 'train.loss' ORDER BY 1")
    assert [row["epoch"] for row in epochs.to_pylist()] == [0, 1]
    labels = event("training.run.labelled")
    assert (labels["job_type"], labels["group"], labels["tags"], labels["notes"]) == (
        "train",
        "g",
        '["a","b"]',
        "n",
    )
