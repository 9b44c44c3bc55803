from __future__ import annotations

import numpy as np
import pytest
import torch

from vitask.training.tsm_task import Head, TSMTask, balanced_class_weights

from .tiny import make_tsm

WEIGHTS = torch.tensor([0.5, 2.0, 1.25])


def batch_of(multi_label: bool, size: int = 6) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(4)
    targets = torch.eye(3)[torch.randint(0, 3, (size,), generator=generator)]
    if multi_label:
        targets = torch.randint(0, 2, (size, 3), generator=generator).float()
    pixels = torch.randn(size, 3, 32, 32, generator=generator, dtype=torch.float64)
    return {"pixels": pixels, "targets": targets, "members": torch.zeros(size, dtype=torch.long)}


def make_task(tsm, multi_label, smoothing=0.0, weights=None) -> TSMTask:
    return TSMTask(tsm, [Head(range(3), multi_label, weights)], smoothing)


def expected_loss(logits, targets, multi_label, smoothing, weights):
    """Return (sum, count) by plain loops over samples and classes."""
    total = count = 0.0
    for row, target in zip(logits, targets, strict=True):
        if multi_label:
            terms = []
            for k, (z, y) in enumerate(zip(row, target, strict=True)):
                y, p = y * (1 - smoothing) + smoothing / 2, 1 / (1 + np.exp(-z))
                terms.append(-(weights[k] * y * np.log(p) + (1 - y) * np.log(1 - p)))
            total, count = total + np.mean(terms), count + 1
        else:
            log_p = row - np.log(np.exp(row).sum())
            share = [(1 - smoothing) * (k == target) + smoothing / len(row) for k in range(len(row))]
            total += -sum(share[k] * weights[k] * log_p[k] for k in range(len(row)))
            count += weights[target]
    return total, count


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weighted", [False, True])
def test_values(multi_label, smoothing, weighted):
    tsm, batch = make_tsm().double().eval(), batch_of(multi_label)
    task = make_task(tsm, multi_label, smoothing, WEIGHTS if weighted else None)
    weights = WEIGHTS.numpy() if weighted else np.ones(3)
    logits, targets = tsm(batch["pixels"]).detach().numpy(), batch["targets"].numpy()
    targets = targets.astype(np.float64) if multi_label else targets.argmax(-1)
    total, count = expected_loss(logits, targets, multi_label, smoothing, weights)
    counts = task.counts(batch)
    assert counts["classification"].item() == pytest.approx(count, abs=1e-12)
    out = task(batch, counts)
    assert out["loss"].item() == pytest.approx(total / count, rel=1e-12)
    assert out["classification"].item() == out["loss"].item()
    assert out["loss"].requires_grad
    assert not out["classification"].requires_grad


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_unequal_parts_of_a_batch_add_up(multi_label, weighted):
    """Loss and gradients of 6 samples equal the sums over parts of 4 and 2, under the parts' summed totals."""
    batch = batch_of(multi_label)
    parts = [{key: value[:4] for key, value in batch.items()}, {key: value[4:] for key, value in batch.items()}]

    def step(batches):
        task = make_task(make_tsm().double().eval(), multi_label, 0.1, WEIGHTS if weighted else None)
        totals = {"classification": sum(task.counts(each)["classification"] for each in batches)}
        losses = []
        for each in batches:
            out = task(each, totals)
            out["loss"].backward()
            losses.append(out["loss"].item())
        return sum(losses), torch.cat([p.grad.flatten() for p in task.parameters()])

    (whole, whole_grad), (split, split_grad) = step([batch]), step(parts)
    assert split == pytest.approx(whole, abs=1e-12)
    assert (whole_grad - split_grad).abs().max() < 1e-12


def test_the_loss_is_float32_under_autocast():
    task, batch = make_task(make_tsm(), multi_label=False), batch_of(False)
    batch["pixels"] = batch["pixels"].float()
    with torch.autocast("cpu", torch.bfloat16):
        assert task(batch, task.counts(batch))["loss"].dtype == torch.float32


def test_it_learns():
    torch.manual_seed(0)
    task, batch = make_task(make_tsm(), multi_label=False), batch_of(False)
    batch["pixels"] = batch["pixels"].float()
    optimizer = torch.optim.AdamW(task.parameters(), 3e-3)
    losses = []
    for _ in range(12):
        loss = task(batch, task.counts(batch))["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 4


def test_balanced_weights_by_hand():
    """Counts 1, 3, 0 of 4 samples and 3 classes: 4/(3*1), 4/(3*3), 4/3 (as if one)."""
    weights = balanced_class_weights(torch.eye(3)[[0, 1, 1, 1]], multi_label=False)
    torch.testing.assert_close(weights, torch.tensor([4 / 3, 4 / 9, 4 / 3]))
    multi_hot = torch.tensor([[1, 0], [1, 0], [0, 0], [1, 0]])
    torch.testing.assert_close(balanced_class_weights(multi_hot, multi_label=True), torch.tensor([1 / 3, 4.0]))


def test_balanced_weights_average_to_one_over_samples():
    targets = torch.tensor([0] * 10 + [1] * 3 + [2] * 7)
    weights = balanced_class_weights(torch.eye(3)[targets], multi_label=False)
    assert weights[targets].mean().item() == pytest.approx(1)


def test_weights_stay_out_of_the_checkpoint():
    task = make_task(make_tsm(), multi_label=False, weights=WEIGHTS)
    assert {name.split(".")[0] for name in task.state_dict()} == {"tsm"}


HEADS = [Head(range(3), False), Head(range(3, 5), False, torch.tensor([0.5, 3.0])), Head(range(5, 9), True)]


def joint_batch() -> dict[str, torch.Tensor]:
    """Two images of each of three data sets of 3, 2 and 4 labels, the last one multi-label."""
    generator = torch.Generator().manual_seed(5)
    targets = torch.zeros(6, 9)
    for row, label in enumerate((0, 3, 5, 2, 4, 8)):
        targets[row, label] = 1.0
    targets[2, 7] = 1.0
    pixels = torch.randn(6, 3, 32, 32, generator=generator, dtype=torch.float64)
    return {"pixels": pixels, "targets": targets, "members": torch.tensor([0, 1, 2, 0, 1, 2])}


def test_the_joint_head_adds_up_the_losses_of_its_data_sets():
    tsm, batch = make_tsm(num_classes=9).double().eval(), joint_batch()
    task = TSMTask(tsm, HEADS, 0.1)
    logits, total, count = tsm(batch["pixels"]).detach().numpy(), 0.0, 0.0
    for number, head in enumerate(HEADS):
        rows = (batch["members"] == number).numpy()
        own = slice(head.labels.start, head.labels.stop)
        targets = batch["targets"].numpy().astype(np.float64)[rows, own]
        weights = np.ones(len(head.labels)) if head.weights is None else head.weights.numpy()
        parts = expected_loss(
            logits[rows, own], targets if head.multi_label else targets.argmax(-1), head.multi_label, 0.1, weights
        )
        total, count = total + parts[0], count + parts[1]
    assert task.counts(batch)["classification"].item() == pytest.approx(count)
    assert task(batch, task.counts(batch))["loss"].item() == pytest.approx(total / count, rel=1e-12)


@pytest.mark.parametrize("row", range(6))
def test_a_sample_has_no_gradient_on_the_logits_of_other_data_sets(row):
    tsm = make_tsm(num_classes=9).double().eval()
    batch = {key: value[row : row + 1] for key, value in joint_batch().items()}
    seen = []
    tsm.register_forward_hook(lambda module, inputs, logits: logits.retain_grad() or seen.append(logits))
    task = TSMTask(tsm, HEADS)
    task(batch, task.counts(batch))["loss"].backward()
    own = HEADS[int(batch["members"])].labels
    reached = seen[0].grad[0].nonzero().flatten().tolist()
    assert reached == list(own)
