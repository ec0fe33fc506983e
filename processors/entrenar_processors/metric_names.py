"""Metric names: what a metric is, whatever a framework or a person calls it, and of which split it is.

The lake keeps the name that was given. Detectors, the stop at a NaN and summaries ask here, so that
`train_loss`, `train/loss`, `Loss` and `total_loss` are watched as `loss` is, and `val_acc` as the
validation's accuracy.
"""

from __future__ import annotations

import re
from collections.abc import Container
from functools import lru_cache

from entrenar_processors.samples import Series

TRAIN, VALIDATION = "train", "validation"

#: Values of the tag `split`, and words in names, for measurements of the whole model and not of a batch.
VALIDATION_WORDS = frozenset({"validation", "val", "valid", "eval", "evaluation", "dev", "test", "testing"})
TRAIN_WORDS = frozenset({"train", "training", "trn"})
#: Words that say how a value was summed up, not what it is.
_FILLERS = frozenset(
    {"total", "avg", "mean", "average", "global", "batch", "step", "epoch", "running", "metrics"}
)
#: What is left of a name without splits and fillers → the name that detectors know.
_ALIASES = {
    "loss": "loss",
    "losses": "loss",
    "loss_loss": "loss",  # torchtitan's loss_metrics/global_avg_loss
    "accuracy": "accuracy",
    "acc": "accuracy",
    "acc1": "accuracy",
    "top1": "accuracy",
    "top1_acc": "accuracy",
    "top1_accuracy": "accuracy",
    "gradient_norm": "gradient_norm",
    "grad_norm": "gradient_norm",
    "gradnorm": "gradient_norm",
    "norm_grad": "gradient_norm",
    "grad_2_0_norm": "gradient_norm",  # Lightning's grad_2.0_norm_total
}
#: One of these is in each of them, so that of most names no more is asked.
_PERHAPS_KNOWN = re.compile("loss|acc|top1|grad", re.IGNORECASE)
#: The last part of a name, without fillers, of what a policy earns: Stable-Baselines3's rollout/ep_rew_mean,
#: CleanRL's charts/episodic_return, RLlib's episode_return_mean, Spinning Up's AverageEpRet.
_REWARDS = frozenset(
    {"reward", "rewards", "return", "returns", "cumulative_reward", "episodic_return", "episodic_reward"}
    | {"episode_reward", "episode_return", "ep_rew", "ep_reward", "ep_ret", "ep_return", "eprew", "eprewmean"}
)
#: As `_PERHAPS_KNOWN`.
_PERHAPS_REWARD = re.compile("rew|ret", re.IGNORECASE)
#: Words in a name that say whether little or much of a metric is good.
LESS_IS_BETTER = frozenset(
    "loss losses error err nll perplexity ppl mae mse rmse wer cer fid bpb bpc divergence".split()  # noqa: SIM905
)
MORE_IS_BETTER = frozenset(
    "accuracy acc acc1 acc5 top1 top5 f1 auc auroc precision recall bleu rouge iou miou dice "  # noqa: SIM905
    "reward rewards rew eprewmean return returns ret".split()
)
#: Words for what a training costs: time and memory.
_COSTS = frozenset("duration latency wait seconds time memory bytes rss".split())  # noqa: SIM905
#: The first that people look at.
_FIRST = ("accuracy", "loss")
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_BREAKS = re.compile(r"[^a-z0-9]+")
_SPLIT_FIRST = re.compile(r"[_/.]")


@lru_cache(maxsize=1 << 16)
def _words_of(metric: str) -> tuple[str, ...]:
    """The words of a name, in lower case; most names have no capitals, and are asked for none."""
    lower = metric.lower()
    text = lower if lower == metric else _CAMEL.sub("_", metric).lower()
    return tuple([word for word in _BREAKS.split(text) if word])


@lru_cache(maxsize=1 << 16)
def known_as(metric: str) -> tuple[str, str | None]:
    """The name that detectors know a metric by (its own, where it is no other), and the split in its name.

    >>> known_as("train/loss"), known_as("val_acc"), known_as("grad_norm"), known_as("aux_loss")
    (('loss', 'train'), ('accuracy', 'validation'), ('gradient_norm', None), ('aux_loss', None))
    """
    if _PERHAPS_KNOWN.search(metric) is None:
        return metric, None
    split = None
    left = []
    for word in _words_of(metric):
        if word in TRAIN_WORDS or word in VALIDATION_WORDS:
            split = TRAIN if word in TRAIN_WORDS else VALIDATION
        elif word not in _FILLERS:
            left.append(word)
    known = _ALIASES.get("_".join(left))
    return (metric, None) if known is None else (known, split)


@lru_cache(maxsize=1 << 16)
def is_reward(metric: str) -> bool:
    """Whether a metric is what a policy that learns is to raise; then its loss need not fall.

    >>> [is_reward(name) for name in ("rollout/ep_rew_mean", "reward", "rewards/chosen", "reward_loss")]
    [True, True, False, False]
    """
    if _PERHAPS_REWARD.search(metric) is None:
        return False
    words = _BREAKS.split(_CAMEL.sub("_", metric.rpartition("/")[2]).lower())
    return "_".join(word for word in words if word not in _FILLERS) in _REWARDS


def name_in(names: Container[str], series: Series) -> str | None:
    """The name among `names` that a series goes by: the one given to `log`, else the one it is known as.

    >>> name_in({"loss"}, Series("train_loss")), name_in({"loss"}, Series("learning_rate"))
    ('loss', None)
    """
    if series.metric in names:
        return series.metric
    known = known_as(series.metric)[0]
    return known if known in names else None


def watched_in(series: tuple[Series, ...], names: frozenset[str]) -> tuple[int, ...]:
    """The places of the series that go by one of `names`; a set of series is looked at once.

    >>> watched_in((Series("rate"), Series("train_loss")), frozenset({"loss"}))
    (1,)
    """
    return (_in_many if len(series) > _MANY_SERIES else _in_few)(series, names)


def _look_in(series: tuple[Series, ...], names: frozenset[str]) -> tuple[int, ...]:
    return tuple([i for i, one in enumerate(series) if name_in(names, one)])


#: Of sets with more series than this, fewer are kept.
_MANY_SERIES = 64
_in_few, _in_many = lru_cache(1 << 13)(_look_in), lru_cache(1 << 7)(_look_in)


def split_of(series: Series) -> str | None:
    """`train` or `validation`, by the tag `split` (another one as it is), else by the name, else None.

    >>> split_of(Series("eval_loss")), split_of(Series.of("loss", {"split": "val"})), split_of(Series("x"))
    ('validation', 'validation', None)
    """
    tag = dict(series.tags).get("split")
    if tag is None:
        return known_as(series.metric)[1]
    word = tag.lower()
    return VALIDATION if word in VALIDATION_WORDS else TRAIN if word in TRAIN_WORDS else tag


@lru_cache(maxsize=1 << 16)
def is_better(metric: str) -> str | None:
    """Which values of a metric are good: `less`, `more`, or None of what is neither.

    >>> [is_better(name) for name in ("val_loss", "accuracy", "step_duration", "learning_rate")]
    ['less', 'more', 'less', None]
    """
    words = frozenset(_words_of(metric))
    if words & LESS_IS_BETTER:
        return "less"
    return "more" if words & MORE_IS_BETTER or is_reward(metric) else "less" if words & _COSTS else None


def rank_of(metric: str, split: str | None) -> tuple[int, bool]:
    """The place of a metric in a list: what is good or bad by its name first, validation first.

    >>> rank_of("accuracy", "validation") < rank_of("loss", None) < rank_of("step_duration", None)
    True
    """
    known = known_as(metric)[0]
    is_cost = known.endswith("_duration") or known == "data_wait"
    tier = 0 if known in _FIRST else 3 if is_cost else 1 if is_better(metric) else 2
    return tier, split != VALIDATION


@lru_cache(maxsize=1 << 16)
def facade_name(metric: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    """What a framework calls a metric, as the name that people log it by, and its tags.

    >>> facade_name("eval_loss"), facade_name("eval_runtime"), facade_name("lr-Adam")
    (('loss', (('split', 'validation'),)), ('runtime', (('split', 'validation'),)), \
('learning_rate', (('parameter_group', 'Adam'),)))
    >>> facade_name("test_acc"), facade_name("grad_norm"), facade_name("aux_loss"), facade_name("loss")
    (('accuracy', (('split', 'test'),)), ('gradient_norm', ()), ('aux_loss', ()), ('loss', ()))
    """
    if metric == "lr" or metric.startswith("lr-"):
        return "learning_rate", (("parameter_group", metric[3:]),) if metric[3:] else ()
    known, split = known_as(metric)
    head, rest = (*_SPLIT_FIRST.split(metric, 1), "")[:2]
    word = head.lower()
    if rest and word in TRAIN_WORDS | VALIDATION_WORDS:
        known = known_as(rest)[0] if split is None else known
        split = "test" if word.startswith("test") else VALIDATION if word in VALIDATION_WORDS else TRAIN
    return known, () if split is None else (("split", split),)
