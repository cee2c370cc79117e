"""One batch of A · B utterances is A accumulated batches of B, as s3prl and ESPnet train."""

import pytest
import torch
import torch.nn.functional as F

from ssl_bench import registry

DIM = 10
KEYS = {"hidden": 8}


def gradients(head: torch.nn.Module) -> torch.Tensor:
    found = torch.cat([parameter.grad.flatten() for parameter in head.parameters()])
    head.zero_grad()
    return found


@pytest.mark.parametrize("kind", ["pr", "ks", "mono_asr", "sv"])
def test_the_gradient_is_that_of_accumulated_batches(small, kind: str) -> None:
    task = small.task(kind, **small.small.get(kind, KEYS))
    torch.manual_seed(0)
    head = task.head(DIM).double()
    ids = task.ids("train")
    lengths = torch.randint(50, 70, (len(ids),)).tolist()
    features, lengths = small.batch(DIM, lengths, dtype=torch.float64)
    targets, counts = task.targets_for(ids)

    outputs, out = head(features, lengths)
    task.loss(outputs, out, targets, counts).mean().backward()
    at_once = gradients(head)

    accumulated = 4
    for part in torch.arange(len(ids)).chunk(accumulated):
        width = int(lengths[part].max())  # a batch is as wide as its own longest
        outputs, out = head(features[part, :width], lengths[part])
        (published(kind, task, outputs, out, targets[part], counts[part]) / accumulated).backward()
    torch.testing.assert_close(gradients(head), at_once, rtol=1e-4, atol=1e-7)


def published(kind, task, outputs, lengths, targets, counts) -> torch.Tensor:
    """The loss of one batch as s3prl (CTC mean, cross-entropy) and ESPnet (CTC sum / B) have it."""
    if kind in ("pr", "mono_asr"):
        logs = outputs.float().log_softmax(-1).transpose(0, 1)
        if kind == "pr":
            return torch.nn.CTCLoss(blank=0, zero_infinity=True)(logs, targets, lengths, counts)
        loss = torch.nn.CTCLoss(blank=0, reduction="sum", zero_infinity=True)
        return loss(logs, targets, lengths, counts) / len(targets)
    if kind == "sv":
        margin = 0.4 * F.one_hot(targets[:, 0], outputs.shape[-1])
        return F.cross_entropy(30 * (outputs.float() - margin), targets[:, 0])
    return F.cross_entropy(outputs.float(), targets[:, 0])


PUBLISHED = {
    # updates, utterances an update, updates between evaluations
    "pr": (100_000, 32, 1_000),
    "asr": (200_000, 16, 2_000),
    "ks": (200_000, 32, 5_000),
    "ic": (200_000, 32, 5_000),
    "sf": (200_000, 32, 2_000),
    "sid": (200_000, 32, 5_000),
    "sv": (200_000, 50, 10_000),
    "er": (30_000, 32, 1_000),
    "mono_asr": (3_750, 32, 125),
    "multi_asr": (75_000, 32, 2_500),
    "multi_lid": (75_000, 32, 2_500),
}


@pytest.mark.parametrize("kind", PUBLISHED)
def test_published_numbers(kind: str) -> None:
    recipe = registry.load("tasks", kind).RECIPE
    found = recipe.training
    every = found.steps // found.evaluations
    assert (found.steps, found.batch_utterances, every) == PUBLISHED[kind]
    assert recipe.learning_rate == (1e-2 if kind == "pr" else 1e-4)
    espnet = kind in ("mono_asr", "multi_asr", "multi_lid")
    assert found.clip == {"sv": 1000}.get(kind, 5 if espnet else 1)
    assert (found.select, found.average) == (("dev_loss", 5) if espnet else ("dev_metric", 1))
    assert found.crop_seconds == (8 if kind in ("sid", "sv") else None)
    assert found.frames == ("ceil" if espnet else "encoder")
    assert found.balance == (kind == "ks")
    assert found.padding == ("group" if kind == "sv" or espnet else "own")
