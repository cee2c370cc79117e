"""Gumbel selection: what is chosen, how often, and what learns from it."""

import copy

import pytest
import torch
from scipy.stats import chisquare
from torch.func import functional_call, stack_module_state, vmap

import SSL_Interface


def test_every_channel_comes_from_its_layer(build, draw):
    states = draw(5, 2, 3, 7)
    interface = build("gumbel_selection", 5, 7, normalize=False)
    assert not interface.training
    features = interface(states)
    chosen = interface.weights.argmax(0).tolist()
    assert len(set(chosen)) > 1
    for channel, layer in enumerate(chosen):
        assert torch.equal(features[..., channel], states[layer, ..., channel])
    counts = torch.tensor([chosen.count(layer) / 7 for layer in range(5)])
    torch.testing.assert_close(interface.layer_weights(), counts)
    norms = torch.zeros(5)
    for layer in range(5):
        mask = torch.tensor([choice == layer for choice in chosen])
        norms[layer] = (states[layer] * mask).norm(dim=-1).mean()
    torch.testing.assert_close(interface.layer_profile(states), norms / norms.sum())


def test_evaluation_is_deterministic_and_training_is_not(build, draw):
    interface, states = build("gumbel_selection", 5, 32), draw(5, 1, 2, 32)
    assert torch.equal(interface(states), interface(states))
    interface.train()
    assert not torch.equal(interface(states), interface(states))


def test_training_takes_layers_with_their_probability(draw):
    """A chi-squared test over many channels that share their logits."""
    torch.manual_seed(0)
    interface = SSL_Interface.create("gumbel_selection", 4, 6000, normalize=False).double()
    logits = torch.tensor([0.0, 1.0, -1.0, 0.5], dtype=torch.float64)
    with torch.no_grad():
        interface.weights.copy_(logits[:, None].expand(4, 6000))
    states = torch.arange(4.0).double()[:, None, None, None].expand(4, 2, 3, 6000)
    features = interface(states)
    assert torch.equal(features, features[:1, :1].expand_as(features))  # one draw a forward
    found = torch.bincount(features[0, 0].long(), minlength=4)
    expected = logits.softmax(0) * 6000
    assert chisquare(found.numpy(), expected.numpy()).pvalue > 0.001


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("temperature", [0.3, 1.0])
def test_gradients_are_straight_through(training, temperature, build, draw):
    """Of the plain formulation, noise drawn in the same way: the choice's value, p's gradient."""
    interface = build("gumbel_selection", 5, 7, normalize=False, temperature=temperature)
    interface.train(training)
    states = draw(5, 2, 3, 7).requires_grad_()
    cotangent = torch.randn(2, 3, 7, dtype=torch.float64)
    torch.manual_seed(3)
    features = interface(states)
    ours = torch.autograd.grad(features, [states, interface.weights], cotangent)

    torch.manual_seed(3)
    noise = -torch.empty(5, 7, dtype=torch.float64).exponential_().log() if training else 0.0
    logits = (interface.weights + noise).detach().requires_grad_()
    chosen = logits.argmax(0)
    for_states = torch.zeros_like(states)
    for channel in range(7):
        for_states[chosen[channel], ..., channel] = cotangent[..., channel]
    torch.testing.assert_close(ours[0], for_states)
    soft = ((logits / temperature).softmax(0)[:, None, None] * states.detach()).sum(0)
    (for_weights,) = torch.autograd.grad(soft, logits, cotangent)
    torch.testing.assert_close(ours[1], for_weights)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("temperature", [0.3, 2.0])
def test_plain_form(temperature, training, build, draw, plain):
    """In training that is torch's hard ``gumbel_softmax``, which draws the same noise."""
    interface = build("gumbel_selection", 5, 7, normalize=False, temperature=temperature)
    interface.train(training)
    inputs = [draw(5, 2, 3, 7).requires_grad_(), interface.weights]
    cotangent = torch.randn(2, 3, 7, dtype=torch.float64)
    torch.manual_seed(4)
    features = interface(inputs[0])
    torch.manual_seed(4)
    expected = plain.PLAIN["gumbel_selection"](interface, inputs[0])
    torch.testing.assert_close(features, expected)
    found = torch.autograd.grad(features, inputs, cotangent)
    right = torch.autograd.grad(expected, inputs, cotangent)
    torch.testing.assert_close(found, right)


def test_stacked_runs_draw_their_own_noise_and_learn(draw):
    runs = [SSL_Interface.create("gumbel_selection", 4, 64).double() for _ in range(2)]
    stacked = stack_module_state(runs)
    states = draw(4, 1, 2, 64)

    def forward(parameters, buffers, states):
        return functional_call(runs[0], (parameters, buffers), (states,))

    features = vmap(forward, in_dims=(0, 0, None), randomness="different")(*stacked, states)
    assert not torch.equal(features[0], features[1])
    features.square().sum().backward()
    assert (stacked[0]["weights"].grad.abs().amax((1, 2)) > 0).all()


def test_it_finds_the_layer_that_matters(draw):
    """Channel d of the target is channel d of layer d mod 3."""
    torch.manual_seed(0)
    interface = SSL_Interface.create("gumbel_selection", 3, 6, normalize=False).double()
    states = torch.randn(3, 4, 25, 6, dtype=torch.float64)
    target = torch.stack([states[channel % 3, ..., channel] for channel in range(6)], -1)
    optimizer = torch.optim.Adam(interface.parameters(), lr=0.1)
    for _ in range(120):
        optimizer.zero_grad()
        (interface(states) - target).square().mean().backward()
        optimizer.step()
    interface.eval()
    assert torch.equal(interface(states), target)
    hotter = copy.deepcopy(interface)
    hotter.temperature = 9.0
    assert torch.equal(hotter(states), target)


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
def test_wrong_temperature(temperature):
    with pytest.raises(SSL_Interface.InterfaceError, match="temperature: expected above zero"):
        SSL_Interface.create("gumbel_selection", 3, 4, temperature=temperature)
