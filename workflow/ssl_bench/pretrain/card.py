"""The model card, written from what ``training.json`` holds."""

from typing import Any

from ssl_bench.pretrain.settings import RECEPTIVE_FIELD, STRIDE


def card(record: dict[str, Any]) -> str:
    """Return the model card for what ``training.json`` holds."""
    settings = record["settings"]
    size = settings["sizes"][record["size"]]
    targets, loss, augment = settings["targets"], settings["loss"], settings["augment"]
    speech, first, second = record["speech"], record["first"], record["second"]
    weights = record["weights"]
    languages = ", ".join(f"{name} {count}" for name, count in speech["languages"].items())
    limit = record["time_limit_minutes"]
    limit_text = f", under a limit of {limit:.1f} minutes" if limit else ""
    limited = " --minutes MINUTES" if limit else ""
    unlimited = (
        "The limit is that of all steps together; without it, and by `snakemake pretrain`, all\n"
        "planned steps are taken."
        if limit
        else "`snakemake pretrain` does the same."
    )
    names = ("hidden-state clusters", "MFCC clusters", "pitch classes")
    held = "\n".join(
        f"| {name} | {h['masked']:.3f} | {h['unmasked']:.3f} | {100 * h['accuracy']:.1f} |"
        for name, h in zip(names, second["held_out"], strict=True)
    )
    first_held = first["held_out"][0]
    first_size = settings["sizes"][settings["first_size"]]
    return f"""---
library_name: transformers
tags: [speech, self-supervised, hubert]
---
# hubert-mini-{record["size"]}

A small HuBERT encoder with {size["layers"] + 1} hidden states of width {size["hidden"]}
({record["parameters"]:,} parameters), pre-trained from scratch on generated speech alone. It exists
so that a study of layer-wise interfaces runs anywhere; it is no replacement for an encoder
trained on people's speech.

## Architecture
`HubertModel`: 7 convolutions ({", ".join(map(str, size["channels"]))} channels, stride {STRIDE},
receptive field {RECEPTIVE_FIELD} samples at 16 kHz, GroupNorm on the first), positional convolution
(kernel {size["position_kernel"]}, {size["position_groups"]} groups), {size["layers"]} pre-norm
blocks ({size["heads"]} heads, feed-forward {size["feed_forward"]}). Input: mono 16 kHz, each
waveform with zero mean and unit variance (`do_normalize`).

## Data
{speech["clips"]:,} clips of {settings["speech"]["seconds"]:g} s ({speech["hours"]:.1f} h) from
espeak-ng, each clip one random voice and one language, random words; made in
{speech["seconds_to_make"]:.0f} s from seed {settings["seed"]}
(SHA-256 of the block digests: `{speech["sha256"]}`).
Clips by language: {languages}.
The input is corrupted, the targets come from the clean clip: noise on
{100 * augment["noise"]:.0f} % of the clips at {augment["snr"][0]:g} to {augment["snr"][1]:g} dB
({100 * augment["babble"]:.0f} % of it babble of other clips), reverberation
{100 * augment["reverberation"]:.0f} %, equaliser {100 * augment["equalisation"]:.0f} %.

## Recipe
HuBERT's two iterations (Hsu et al., 2021), masked prediction of clusters by cosine over a
temperature of {loss["temperature"]:g}; spans of {loss["mask_span"]} frames that start with
probability {loss["mask_start"]:g}; loss = mean over masked frames + {loss["unmasked"]:g} × mean
over unmasked frames; AdamW, warm-up {100 * settings["warm_up"]:g} %, cosine to zero, gradient norm
clipped at {settings["clip_norm"]:g}.

1. {first["steps"]} steps of {settings["first"]["batch"]} clips, learning rate
   {settings["first"]["learning_rate"]:g}, {first_size["layers"]} blocks,
   on {targets["mfcc_clusters"]} k-means clusters of 39 MFCC. {first["hardware"]},
   {first["seconds"]:.0f} s. Held-out masked loss {first_held["masked"]:.3f}, accuracy
   {100 * first_held["accuracy"]:.1f} %.
2. {second["steps"]} steps of {settings["second"]["batch"]} clips, learning rate
   {settings["second"]["learning_rate"]:g}, on {targets["clusters"]} clusters of state
   {targets["layer"]} of the first model ({first["clusters_used"]} in use), and from state
   {size["side_layer"]} on the MFCC clusters and {targets["pitch_bins"]} pitch classes + unvoiced
   (weight {loss["side"]:g}). {record["hardware"]}, {second["seconds"]:.0f} s{limit_text}.

Held-out clips ({settings["speech"]["held_out"]}, corrupted alike) after the second iteration:

| target | masked loss | unmasked loss | masked accuracy (%) |
|---|---|---|---|
{held}

Planned steps: {first["planned_steps"]} and {second["planned_steps"]}; a time limit shortens the
schedule, never its shape. Loss curves, versions and every setting: `training.json`.

## Command
    python -m ssl_bench.pretrain run --config config/pretrain.yaml --work WORK --out models{limited}

{unlimited}
With the code of then a repetition makes the same clips; its weights differ by the rounding and the
order of GPU sums.

## Departures from HuBERT's recipe
- Generated instead of recorded speech, and corrupted input with clean targets (as in WavLM).
- The second head on a lower state, with MFCC and pitch classes, keeps speaker and prosody.
- Pre-norm blocks behind a GroupNorm frontend; fewer channels; no dropout, no layer drop; the
  frontend's gradient is not scaled down and its features carry no penalty.
- {targets["mfcc_clusters"]} clusters in the first iteration instead of 100, state
  {targets["layer"]} instead of 6 for the second; hidden states are normalised to zero mean and
  unit variance before k-means.
- Cosine instead of linear decay; the mean over unmasked frames has a weight of its own.
- All sizes share the clusters of one first iteration, as HuBERT Large shares those of Base.

## Weights
`model.safetensors`, fp16, {weights["bytes"]:,} bytes, SHA-256 `{weights["sha256"]}`.
Rounding to fp16 moves no state by more than {weights["fp16_difference"]:.2g} (on noise, where the
largest state is {weights["largest_state"]:.3g}).

## Limits
One synthesiser's voices and prosody: expect a large gap on people's speech. Languages are
espeak-ng's reading of word lists. Not for any use but studies of method.
"""
