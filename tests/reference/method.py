"""Losses, memory bank and neighbourhoods of docs/method.md, and one step of training."""

import torch
from torch.nn import functional as F

BLOCK_ROWS = 512


def contrastive(z, bank, own, prototypical, members, tau):
    """L_ss and L_agg, means over the batch, of embeddings z [views, b, d] against the bank [n, d].

    `own` [b] are the images' rows. `prototypical` [b] is 1 for the images of B_ps, or None in phase 1; `members` [b, k + 1]
    are then their neighbourhoods, themselves included. With several views, the other views of an image count as j too.
    """
    views, b, _ = z.shape
    logits = z.flatten(0, 1) @ bank.T / tau
    log_total = logits.logsumexp(1)
    log_own = logits.gather(1, own.repeat(views)[:, None])
    log_p_own = log_own[:, 0] - log_total
    if views > 1:
        similar = torch.einsum("vbd,wbd->bvw", z, z) / tau
        rest = ~torch.eye(views, dtype=torch.bool, device=z.device)
        others = similar[:, rest].view(b, views, views - 1).transpose(0, 1).reshape(views * b, views - 1)
        denominator = torch.cat([log_total[:, None], others], 1).logsumexp(1)
        log_p_own = torch.cat([log_own, others], 1).logsumexp(1) - denominator
    if prototypical is None:
        return -log_p_own.mean(), torch.zeros((), device=z.device)
    chosen = prototypical.repeat(views)
    log_p_set = logits.gather(1, members.repeat(views, 1)).logsumexp(1) - log_total
    return -(log_p_own * (1 - chosen)).mean(), -(log_p_set * chosen).mean()


@torch.no_grad()
def update_bank(bank, own, z, rate):
    """m_i <- normalise((1 - t) m_i + t z_i), of several views their mean."""
    bank[own] = F.normalize((1 - rate) * bank[own] + rate * z.mean(0), dim=1)


@torch.no_grad()
def discover(bank, round_number, rate, k, tau):
    """The round's prototypical images, [n] of 0 and 1, and everybody's neighbourhood, [n, k + 1], in blocks of rows."""
    n = len(bank)
    entropy, members = [], []
    for start in range(0, n, BLOCK_ROWS):
        similar = bank[start : start + BLOCK_ROWS] @ bank.T
        log_p = (similar / tau).log_softmax(1)
        entropy.append(-(log_p.exp() * log_p).sum(1))
        own = torch.arange(start, start + len(similar), device=bank.device)[:, None]
        nearest = similar.scatter(1, own, -torch.inf).topk(min(k, n - 1)).indices
        members.append(torch.cat([nearest, own], 1))
    share = round_number * rate
    count = n if share > 1 - 1e-9 else int(share * n + 1e-9)
    prototypical = torch.zeros(n, device=bank.device)
    prototypical[torch.cat(entropy).argsort(stable=True)[:count]] = 1
    return prototypical, torch.cat(members)


def optimiser(net, train):
    return torch.optim.Adam(net.parameters(), train["learning_rate"], weight_decay=train["weight_decay"], fused=True)


def step(net, bank, adam, images, own, found, train, autocast=None):
    """One step with images [views * b, ...]; `found` is what `discover` gave, or None in phase 1. `autocast` is the type
    to compute the network in. Gives reconstruction, sample-specific, aggregation and total loss."""
    with torch.autocast(images.device.type, autocast, enabled=autocast is not None):
        z, output = net(images)
    loss = F.l1_loss if train["reconstruction"] == "l1" else F.mse_loss
    reconstruction = loss(output.float(), images)
    z = z.view(train["views"], len(own), -1)
    prototypical, members = (None, None) if found is None else (found[0][own], found[1][own])
    sample_specific, aggregation = contrastive(z, bank, own, prototypical, members, train["tau"])
    total = train["w_rec"] * reconstruction + train["w_con"] * (sample_specific + aggregation)
    adam.zero_grad()
    total.backward()
    adam.step()
    update_bank(bank, own, z.detach(), train["bank_rate"])
    return torch.stack([reconstruction, sample_specific, aggregation, total]).detach()
