"""The equations of ProDA in plain float64 NumPy: loops over videos, frames, nodes and edges, dense slots, no tricks.

Arrays have frames first: nodes (N, M, D) with mask (N, M), edge features (N, E, D) with mask (N, E), edges (2, E) as
(sender, receiver). Where something does not exist its value means nothing, and results there are left at zero.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import erf
from torch import nn

from proda_lib.graph import SceneGraph
from proda_lib.models.config import ModelConfig

Array = np.ndarray


class Weights(dict):
    """Parameters and buffers of a module by name."""

    @classmethod
    def of(cls, module: nn.Module) -> Weights:
        return cls({name: value.double().numpy().copy() for name, value in module.state_dict().items()})

    def part(self, name: str) -> Weights:
        return Weights({k.removeprefix(f"{name}."): v for k, v in self.items() if k.startswith(f"{name}.")})


# --- standard parts -----------------------------------------------------------------------------------------------


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def gelu(x: Array) -> Array:
    return x * (1 + erf(x / np.sqrt(2))) / 2


def linear(w: Weights, x: Array) -> Array:
    return x @ w["weight"].T + w.get("bias", 0.0)


def mlp(w: Weights, x: Array) -> Array:
    """Linear → GELU → ... → Linear, in the order of the layers' numbers."""
    layers = sorted({int(name.split(".")[0]) for name in w})
    for i, layer in enumerate(layers):
        x = linear(w.part(str(layer)), gelu(x) if i else x)
    return x


def layer_norm(w: Weights, x: Array) -> Array:
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return w["weight"] * (x - mean) / np.sqrt(variance + 1e-5) + w["bias"]


def ffn(w: Weights, x: Array) -> Array:
    return layer_norm(w.part("norm"), x + mlp(w.part("mlp"), x))


def attention_block(w: Weights, x: Array, mask: Array, heads: int) -> Array:
    """Figure 6, pre-norm, for one sequence (L, D) whose elements exist where ``mask`` (L,) says."""
    L, D = x.shape
    width = D // heads
    q, k, v = np.split(linear(w.part("qkv"), layer_norm(w.part("norm1"), x)), 3, axis=-1)
    attended = np.zeros((L, D))
    for i in range(L):
        others = [j for j in range(L) if mask[j] or j == i]
        for h in range(heads):
            part = slice(h * width, (h + 1) * width)
            scores = np.exp([q[i, part] @ k[j, part] / np.sqrt(width) for j in others])
            for score, j in zip(scores / scores.sum(), others, strict=True):
                attended[i, part] += score * v[j, part]
    x = x + linear(w.part("out"), attended)
    return x + mlp(w.part("mlp"), layer_norm(w.part("norm2"), x))


def attention_encoder(w: Weights, x: Array, mask: Array, heads: int, depth: int) -> Array:
    for block in range(depth):
        x = attention_block(w.part(f"blocks.{block}"), x, mask, heads)
    return layer_norm(w.part("norm"), x)


# --- video encoder ------------------------------------------------------------------------------------------------


def dual_ai(w: Weights, x: Array, mask: Array, heads: int, wiring: str) -> Array:
    """Figure 5 for one video: x (N, X, D) with X nodes a frame."""

    def spatial(index: int, x: Array) -> Array:
        """Attention among the nodes of each frame."""
        block = w.part(f"attention.{index}")
        return np.stack([attention_block(block, x[i], mask[i], heads) for i in range(len(x))])

    def temporal(index: int, x: Array) -> Array:
        """Attention among the frames of each node."""
        block = w.part(f"attention.{index}")
        nodes = range(x.shape[1])
        return np.stack([attention_block(block, x[:, j], mask[:, j], heads) for j in nodes], axis=1)

    def net(index: int, x: Array) -> Array:
        return mlp(w.part(f"mlps.{index}"), x)

    if wiring == "figure5":
        s1, t1 = spatial(0, x), temporal(1, x)
        s = net(0, temporal(2, s1) + spatial(3, s1) + s1)
        t = net(1, spatial(4, t1) + temporal(5, t1) + t1)
        return layer_norm(w.part("fuse.2"), gelu(linear(w.part("fuse.0"), s + t)))
    else:
        a, b = spatial(0, x), temporal(1, x)  # spatial block on the temporal stream and the reverse; both start at x
        s, t = net(0, a + b + x), net(1, b + a + x)
        s, t = net(4, s), net(5, t)
        a, b = spatial(2, t), temporal(3, s)
        s, t = net(2, a + b + s), net(3, b + a + t)
        return gelu(linear(w.part("fuse.0"), s + t))


def stem(w: Weights, graph: SceneGraph) -> tuple[Array, Array]:
    """Node features (N, M, D) and whole-frame features (N, D) before the encoder."""
    boxes = graph.boxes.astype(np.float32).astype(np.float64)

    def fuse(seen: Array, box: Array, frame: int) -> Array:
        return mlp(w.part("fuse"), np.concatenate([seen, linear(w.part("box"), box)])) + w["position"][frame]

    nodes, whole = [], []
    for i in range(graph.num_frames):
        for j in range(graph.num_slots):
            if graph.features is None:
                seen = w["appearance.weight"][graph.classes[j]]
            else:
                seen = mlp(w.part("adapter"), graph.features[i, j].astype(np.float64))
            nodes.append(fuse(seen, boxes[i, j], i))
        if graph.features is None:
            seen = w["whole_frame"]
        else:
            seen = mlp(w.part("adapter"), graph.frame_features[i].astype(np.float64))
        whole.append(fuse(seen, np.array([0.0, 0.0, 1.0, 1.0]), i))
    return np.reshape(nodes, (graph.num_frames, graph.num_slots, -1)), np.stack(whole)


def video_encoder(w: Weights, graph: SceneGraph, heads: int, wiring: str) -> tuple[Array, Array]:
    """F_o (N, M, D) and edge features (N, E, D) of one video."""
    nodes, whole = stem(w.part("stem"), graph)
    everything = np.concatenate([whole[:, None], nodes], axis=1)
    mask = np.concatenate([np.ones((graph.num_frames, 1), bool), graph.present], axis=1)
    encoded = dual_ai(w.part("dual_ai"), everything, mask, heads, wiring)
    whole = encoded[:, 0]
    original = ffn(w.part("ffn"), encoded[:, 1:] + w["classes.weight"][graph.classes])
    original[~graph.present] = 0
    edges = np.zeros((graph.num_frames, graph.num_edges, whole.shape[-1]))
    for i in range(graph.num_frames):
        for e, (a, b) in enumerate(graph.edges.T):
            subject, target = min(a, b), max(a, b)
            triple = np.concatenate([original[i, subject], whole[i], original[i, target]])
            edges[i, e] = mlp(w.part("edge"), triple) + w["relation.weight"] @ graph.relations[i, e]
    return original, edges


# --- prompts, eq. (1)–(2) -----------------------------------------------------------------------------------------


def dynamic_prompt_weights(w: Weights, f: Array, v: Array) -> Array:
    """α (T,) of one node f (D,) under a specification v (C,)."""
    return sigmoid(linear(w.part("ww"), w["wy.weight"] @ v + f))


def dynamic_prompt(w: Weights, nodes: Array, v: Array) -> Array:
    D = nodes.shape[-1]
    wide = w["wq.weight"] @ v
    result = nodes.copy()
    for place in np.ndindex(nodes.shape[:2]):
        for t, alpha in enumerate(dynamic_prompt_weights(w, nodes[place], v)):
            result[place] += alpha * wide[t * D : (t + 1) * D]
    return result


def simple_prompt(w: Weights, nodes: Array, v: Array) -> Array:
    return nodes + w["wy.weight"] @ v


# --- norms, eq. (3)–(4) and table 4 -------------------------------------------------------------------------------
# Each takes the videos of a batch as lists and gives the results and the updated running statistics.


def vgnorm(w: Weights, videos: list[Array], masks: list[Array], training: bool) -> tuple[list[Array], dict]:
    running = w["running_mean"].copy()
    frames = range(videos[0].shape[0])
    if training:
        for i in frames:
            values = np.concatenate([x[i][m[i]].ravel() for x, m in zip(videos, masks, strict=True)])
            if values.size:
                running[i] = 0.9 * running[i] + 0.1 * values.mean()
    results = []
    for x, mask in zip(videos, masks, strict=True):
        y = np.zeros_like(x)
        for i in frames:
            centred = x[i][mask[i]] - w["alpha"][i] * running[i]
            if centred.size:
                sigma = np.sqrt((centred**2).sum() / (centred.size - 1))
                y[i][mask[i]] = w["gamma"][i] * centred / sigma + w["beta"][i]
        results.append(y)
    return results, {"running_mean": running}


def vgnorm_released(w: Weights, videos: list[Array], masks: list[Array], training: bool) -> tuple[list[Array], dict]:
    """Person and objects apart; absent slots are explicit zeros that count."""
    running = w["running_mean"].copy()
    videos = [x * m[..., None] for x, m in zip(videos, masks, strict=True)]
    results = [np.zeros_like(x) for x in videos]
    N, M, D = videos[0].shape
    for group, slots in enumerate((slice(0, 1), slice(1, M))):
        for i in range(N):
            mean = running[group, i]
            if training:
                mean = np.mean([x[i, slots] for x in videos])
                running[group, i] = 0.9 * running[group, i] + 0.1 * mean
            for x, mask, y in zip(videos, masks, results, strict=True):
                centred = x[i, slots] - w["alpha"][group, i] * mean
                sigma = np.sqrt((centred**2).sum() / (len(centred) + D - 1) + 1e-5)
                y[i, slots] = (w["gamma"][group, i] * centred / sigma + w["beta"][group, i]) * mask[i, slots, None]
    return results, {"running_mean": running}


def layer_norm_nodes(w: Weights, videos: list[Array], masks: list[Array], training: bool) -> tuple[list[Array], dict]:
    return [layer_norm(w, x) * m[..., None] for x, m in zip(videos, masks, strict=True)], {}


def frame_batch_norm(w: Weights, videos: list[Array], masks: list[Array], training: bool) -> tuple[list[Array], dict]:
    running_mean, running_var = w["running_mean"].copy(), w["running_var"].copy()
    results = [np.zeros_like(x) for x in videos]
    for i in range(videos[0].shape[0]):
        values = np.concatenate([x[i][m[i]].ravel() for x, m in zip(videos, masks, strict=True)])
        if not values.size:
            continue
        mean, variance = running_mean[i], running_var[i]
        if training:
            mean, variance = values.mean(), values.var()
            running_mean[i] = 0.9 * running_mean[i] + 0.1 * mean
            running_var[i] = 0.9 * running_var[i] + 0.1 * values.var(ddof=1)
        for x, mask, y in zip(videos, masks, results, strict=True):
            normalised = (x[i][mask[i]] - mean) / np.sqrt(variance + 1e-5)
            y[i][mask[i]] = w["weight"][i] * normalised + w["bias"][i]
    return results, {"running_mean": running_mean, "running_var": running_var}


def graph_norm(w: Weights, videos: list[Array], masks: list[Array], training: bool) -> tuple[list[Array], dict]:
    results = []
    for x, mask in zip(videos, masks, strict=True):
        y, nodes = np.zeros_like(x), x[mask]
        if len(nodes):
            centred = nodes - w["alpha"] * nodes.mean(0)
            y[mask] = w["gamma"] * centred / np.sqrt((centred**2).mean(0) + 1e-5) + w["beta"]
        results.append(y)
    return results, {}


NORMS: dict[str, Callable] = {
    "vgnorm": vgnorm,
    "vgnorm_released": vgnorm_released,
    "layer": layer_norm_nodes,
    "batch": frame_batch_norm,
    "graph": graph_norm,
}


# --- VGPNN, eq. (9)–(12) ------------------------------------------------------------------------------------------


def vgpnn_layer(
    w: Weights, nodes: Array, mask: Array, edges: Array, features: Array, heads: int, depth: int, norm: str,
    message_norm: bool,
) -> tuple[Array, Array]:  # fmt: skip
    """One layer on one video, evaluation mode: new nodes (N, M, D) and edge weights (N, E)."""
    N, _, D = nodes.shape
    # The layers that read a concatenation are stored as one matrix per part.
    link_in = np.concatenate([w[f"link_{part}.weight"] for part in ("receiver", "edge", "sender")], axis=1)
    message_in = np.concatenate([w["message_receiver.weight"], w["message_edge.weight"]], axis=1)
    message, weights = np.zeros_like(nodes), np.zeros((N, edges.shape[1]))
    for e, (sender, receiver) in enumerate(edges.T):
        there = mask[:, sender] & mask[:, receiver]
        link = np.zeros((N, D))
        for i in range(N):
            triple = np.concatenate([nodes[i, receiver], features[i, e], nodes[i, sender]])
            link[i] = linear(w.part("link_out"), gelu(link_in @ triple + w["link_receiver.bias"]))
        link = attention_encoder(w.part("transformer"), link, there, heads, depth)
        for i in np.flatnonzero(there):
            weights[i, e] = sigmoid(linear(w.part("weight"), link[i]))[0]
            hidden = gelu(message_in @ np.concatenate([nodes[i, receiver], link[i]]) + w["message_receiver.bias"])
            message[i, receiver] += weights[i, e] * linear(w.part("message_out"), hidden)
    if message_norm:
        for place in np.ndindex(mask.shape):
            length = np.linalg.norm(message[place])
            if length:
                message[place] *= w["scale"] * np.linalg.norm(nodes[place]) / length
    updated = mlp(w.part("agg"), nodes + message)
    normalised = NORMS[norm](w.part("norm"), [updated], [mask], training=False)[0][0]
    return gelu(normalised) * mask[..., None], weights


def vgpnn(
    w: Weights, nodes: Array, mask: Array, edges: Array, features: Array, config: ModelConfig,
    prompt: Callable[[Array], Array],
) -> tuple[Array, Array]:  # fmt: skip
    weights = []
    for layer in range(config.layers):
        nodes, given = vgpnn_layer(
            w.part(f"layers.{layer}"), prompt(nodes), mask, edges, features, config.heads, config.depth, config.norm,
            config.message_norm,
        )  # fmt: skip
        weights.append(given)
    return nodes, np.stack(weights)


# --- readout, fusion, reconstruction ------------------------------------------------------------------------------


@dataclass
class Answer:
    logits: Array
    s: Array
    feature: Array


def readout(w: Weights, nodes: Array, mask: Array) -> Answer:
    """One video (N, M, D), all of whose N frames exist."""
    N, M, D = nodes.shape
    nodes = ffn(w.part("node_ffn"), nodes)
    s, video = np.zeros(N), np.zeros(D)
    for i in range(N):
        frame = np.zeros(D)
        for j in np.flatnonzero(mask[i]):
            frame += sigmoid(mlp(w.part("node_score"), nodes[i, j])) * nodes[i, j]
        frame = ffn(w.part("frame_ffn"), frame)
        s[i] = sigmoid(mlp(w.part("frame_score"), frame))[0]
        video += s[i] * frame
    feature = ffn(w.part("video_ffn"), video)
    return Answer(linear(w.part("classifier"), feature), s, feature)


def fusion(w: Weights, unspecified: Array, specified: Array) -> tuple[Array, Array]:
    """Eq. (6): the fused node and δ, for any leading shape."""
    both = np.concatenate([unspecified, specified], axis=-1)
    part = w.part("delta")
    delta = sigmoid(linear(part, both) if "weight" in part else mlp(part, both))
    return delta * unspecified + (1 - delta) * specified, delta[..., 0]


# --- losses, eq. (5)–(8) ------------------------------------------------------------------------------------------


def disentanglement_loss(unspecified: list[Array], specified: list[Array], masks: list[Array], margin: float) -> float:
    terms = []
    for u, s, mask in zip(unspecified, specified, masks, strict=True):
        correlation = np.corrcoef(u[mask].ravel(), s[mask].ravel())[0, 1]
        terms.append(max(abs(correlation) - margin, 0))
    return np.mean(terms)


def disentanglement_loss_released(
    unspecified: list[Array], specified: list[Array], masks: list[Array], margin: float
) -> float:
    """Absent slots are zeros and count."""
    u = np.stack([x * m[..., None] for x, m in zip(unspecified, masks, strict=True)])
    s = np.stack([x * m[..., None] for x, m in zip(specified, masks, strict=True)])
    return max(abs((u * s).mean() / (u.std() * s.std())) - margin, 0)


def reconstruction_loss(
    original: list[Array], rebuilt: list[Array], masks: list[Array], margin: float, per_sample: bool
) -> float:
    squares = [(o[m] - r[m]) ** 2 for o, r, m in zip(original, rebuilt, masks, strict=True)]
    if per_sample:
        return np.mean([max(square.mean() - margin, 0) for square in squares])
    return max(np.concatenate(squares).mean() - margin, 0)


def binary_cross_entropy(logits: Array, target: Array) -> Array:
    p = sigmoid(logits)
    return -(target * np.log(p) + (1 - target) * np.log(1 - p))


# --- the whole model ----------------------------------------------------------------------------------------------


@dataclass
class Answers:
    a_s: Answer
    a_u: Answer
    a_t: Answer
    a_m: Answer
    specified: Array
    unspecified: Array
    rebuilt: Array
    delta: Array
    w: Array


def proda(w: Weights, config: ModelConfig, graph: SceneGraph, sap: Array) -> Answers:
    """ProDA on one video with one SAP (C,), evaluation mode."""
    original, edges = video_encoder(w.part("encoder"), graph, config.heads, config.wiring)
    mask = graph.present

    def disentangle(branch: str, v: Array) -> tuple[Array, Array]:
        module = w.part("prompts.1" if config.branches == "dual" and branch == "u" else "prompts.0")
        add = simple_prompt if config.prompt == "simple" else dynamic_prompt

        def prompt(nodes: Array) -> Array:
            return add(module, nodes, v)

        nodes = ffn(w.part(f"branch_ffn.{branch}"), prompt(original)) * mask[..., None]
        return vgpnn(w.part("vgpnn"), nodes, mask, graph.edges, edges, config, prompt)

    specified, weights = disentangle("s", sap.astype(float))
    unspecified, _ = disentangle("u", 1.0 - sap)
    fused, delta = fusion(w.part("fusion"), unspecified, specified)
    return Answers(
        a_s=readout(w.part("readout_s"), specified, mask),
        a_u=readout(w.part("readout_u"), unspecified, mask),
        a_t=readout(w.part("readout_t"), fused, mask),
        a_m=readout(w.part("readout_m"), original, mask),
        specified=specified,
        unspecified=unspecified,
        rebuilt=mlp(w.part("reconstruction"), fused),
        delta=delta,
        w=weights,
    )


def no_prompt(w: Weights, config: ModelConfig, graph: SceneGraph) -> Answer:
    """The same network with one branch and no prompt."""
    original, edges = video_encoder(w.part("encoder"), graph, config.heads, config.wiring)
    nodes = ffn(w.part("ffn"), original) * graph.present[..., None]
    nodes, _ = vgpnn(w.part("vgpnn"), nodes, graph.present, graph.edges, edges, config, prompt=lambda nodes: nodes)
    return readout(w.part("readout"), nodes, graph.present)


def encoder_only(w: Weights, config: ModelConfig, graph: SceneGraph) -> Answer:
    original, _ = video_encoder(w.part("encoder"), graph, config.heads, config.wiring)
    return readout(w.part("readout"), original, graph.present)


# --- baselines of table 1: each takes the weights of the whole model and gives the logits (C,) of one video ---------


def incoming(graph: SceneGraph, frame: int, slot: int) -> list[tuple[int, int]]:
    """(edge, sender) of the edges that exist in a frame and end in a slot."""
    there = graph.edge_present[frame]
    return [(e, a) for e, (a, b) in enumerate(graph.edges.T) if there[e] and b == slot]


def tokens(w: Weights, graph: SceneGraph) -> tuple[Array, Array]:
    """Node tokens (N, M, D) and whole-frame tokens (N, D) that three of the baselines start from."""
    nodes, whole = stem(w.part("stem"), graph)
    return nodes + w["classes.weight"][graph.classes], whole


def token_transformer(w: Weights, config: ModelConfig, graph: SceneGraph) -> Array:
    nodes, whole = tokens(w.part("tokens"), graph)
    sequence, mask = list(whole), [True] * graph.num_frames
    for frame, slot in np.ndindex(graph.present.shape):
        token = nodes[frame, slot].copy()
        for e, _ in incoming(graph, frame, slot):
            for r in np.flatnonzero(graph.relations[frame, e]):
                token += w["tokens.relation.weight"][:, r]
        sequence.append(token)
        mask.append(graph.present[frame, slot])
    mask, blocks = np.array(mask), 2 + config.layers * config.depth
    encoded = attention_encoder(w.part("encoder"), np.stack(sequence), mask, config.heads, blocks)
    return linear(w.part("classifier.linear"), encoded[mask].mean(0))


def frame_gcn(w: Weights, config: ModelConfig, graph: SceneGraph) -> Array:
    nodes, whole = tokens(w.part("tokens"), graph)
    for layer in range(2):
        part = w.part(f"convolutions.{layer}")

        def update(h: Array, messages: list[Array], part: Weights = part) -> Array:
            mean = np.mean(messages, axis=0) if messages else np.zeros_like(h)
            return layer_norm(
                part.part("norm"), h + gelu(linear(part.part("own"), h) + part["neighbours.weight"] @ mean)
            )

        new = np.zeros_like(nodes)
        for frame, slot in np.argwhere(graph.present):
            messages = [nodes[frame, a] + w["tokens.relation.weight"] @ graph.relations[frame, e]
                        for e, a in incoming(graph, frame, slot)]  # fmt: skip
            new[frame, slot] = update(nodes[frame, slot], messages)
        nodes, whole = new, np.stack([update(h, []) for h in whole])
    return linear(w.part("classifier.linear"), np.concatenate([nodes[graph.present], whole]).mean(0))


def gru_cell(w: Weights, x: Array, h: Array) -> Array:
    """One step for x (D,) and state h (D,); PyTorch's order of gates: reset, update, new."""
    of_x = np.split(w["weight_ih"] @ x + w["bias_ih"], 3)
    of_h = np.split(w["weight_hh"] @ h + w["bias_hh"], 3)
    reset, update = sigmoid(of_x[0] + of_h[0]), sigmoid(of_x[1] + of_h[1])
    return (1 - update) * np.tanh(of_x[2] + reset * of_h[2]) + update * h


def gpnn(w: Weights, config: ModelConfig, graph: SceneGraph) -> Array:
    nodes, whole = tokens(w.part("tokens"), graph)
    given = whole[:, None] + graph.relations @ w["tokens.relation.weight"].T
    last = given.copy()
    for _ in range(config.layers):
        new, sent = np.zeros_like(nodes), last.copy()
        for frame, v in np.argwhere(graph.present):
            total = np.zeros(config.width)
            for e, u in incoming(graph, frame, v):
                h_v, h_u = nodes[frame, v], nodes[frame, u]
                adjacency = sigmoid(mlp(w.part("link"), np.concatenate([h_v, h_u, last[frame, e]])))
                parts = (("of_receiver", h_v), ("of_sender", h_u), ("of_edge", given[frame, e]))
                sent[frame, e] = np.concatenate([linear(w.part(name), x) for name, x in parts])
                total += adjacency * sent[frame, e]
            new[frame, v] = gru_cell(w.part("update"), total, nodes[frame, v])
        nodes, last = new, sent
    scores = [linear(w.part("classifier.linear"), h) for h in nodes[graph.present]]
    return np.mean(scores, axis=0) if scores else w["classifier.linear.bias"]


def lstm_layer(w: Weights, layer: int, inputs: list[Array]) -> list[Array]:
    """States h (D,) after each input; PyTorch's order of gates: input, forget, cell, output."""
    D = w[f"weight_hh_l{layer}"].shape[1]
    h, c, states = np.zeros(D), np.zeros(D), []
    for x in inputs:
        gates = w[f"weight_ih_l{layer}"] @ x + w[f"bias_ih_l{layer}"]
        gates = gates + w[f"weight_hh_l{layer}"] @ h + w[f"bias_hh_l{layer}"]
        take, keep, new, show = np.split(gates, 4)
        c = sigmoid(keep) * c + sigmoid(take) * np.tanh(new)
        h = sigmoid(show) * np.tanh(c)
        states.append(h)
    return states


def relation_lstm(w: Weights, config: ModelConfig, graph: SceneGraph) -> Array:
    inputs = []
    for frame in range(graph.num_frames):
        counts = np.zeros((config.objects, config.relations + 1))
        for slot in np.flatnonzero(graph.present[frame]):
            counts[graph.classes[slot], -1] += 1
        for e in np.flatnonzero(graph.edge_present[frame]):
            for end in graph.edges[:, e]:
                counts[graph.classes[end], :-1] += graph.relations[frame, e]
        inputs.append(linear(w.part("embed"), counts.ravel()))
    for layer in range(config.layers):
        inputs = lstm_layer(w.part("lstm"), layer, inputs)
    return linear(w.part("classifier.linear"), np.mean(inputs, axis=0))


# --- figure 4: distances; figures 9 to 11: what carries an action -------------------------------------------------


def class_distances(points: Array, classes: Array) -> dict[str, tuple[float, float, int]]:
    """Mean, standard deviation (divisor n − 1) and number of the distances within ("intra") and between classes."""
    found: dict[str, list[float]] = {"intra": [], "inter": []}
    for i in range(len(points)):
        for j in range(i + 1, len(points)):
            distance = float(np.sqrt(((points[i] - points[j]) ** 2).sum()))
            found["intra" if classes[i] == classes[j] else "inter"].append(distance)
    return {name: (float(np.mean(d)), float(np.std(d, ddof=1)), len(d)) for name, d in found.items()}


def average_precision(truth: Array, scores: Array) -> float:
    """Σ over distinct scores, from the highest, of the recall gained there times the precision there."""
    total, before = 0.0, 0.0
    for threshold in sorted(set(scores.tolist()), reverse=True):
        taken = [t for t, score in zip(truth, scores, strict=True) if score >= threshold]
        recall = sum(taken) / sum(truth)
        total += (recall - before) * sum(taken) / len(taken)
        before = recall
    return total


def attention_received(w: Weights, x: Array, heads: int) -> Array:
    """For each token of one sequence x (L, D): Σ over the tokens that look of the weight it gets, mean over heads."""
    L, D = x.shape
    width = D // heads
    q, k, _ = np.split(linear(w.part("qkv"), layer_norm(w.part("norm1"), x)), 3, axis=-1)
    got = np.zeros(L)
    for h in range(heads):
        part = slice(h * width, (h + 1) * width)
        for i in range(L):
            scores = np.exp([q[i, part] @ k[j, part] / np.sqrt(width) for j in range(L)])
            got += scores / scores.sum() / heads
    return got


def specified_logit(w: Weights, config: ModelConfig, graph: SceneGraph, original: Array, edges: Array, action: int):
    """a_s of one action asked for alone, given F_o (N, M, D) and the edge features (N, E, D)."""
    v = np.eye(config.actions)[action]

    def prompt(nodes: Array) -> Array:
        return dynamic_prompt(w.part("prompts.0"), nodes, v)

    nodes = ffn(w.part("branch_ffn.s"), prompt(original)) * graph.present[..., None]
    nodes, _ = vgpnn(w.part("vgpnn"), nodes, graph.present, graph.edges, edges, config, prompt)
    return readout(w.part("readout_s"), nodes, graph.present).logits[action]


def gradient_times_input(
    w: Weights, config: ModelConfig, graph: SceneGraph, action: int, kind: str, place: tuple[int, int]
) -> Array:
    """x_d ∂a_s/∂x_d (D,) of one token: how a_s changes as a channel of it is scaled, by central differences."""
    step, inputs = 1e-4, dict(zip(("nodes", "edges"), video_encoder(w.part("encoder"), graph, config.heads,
                                                                    config.wiring), strict=True))  # fmt: skip
    found = np.zeros(config.width)
    for d in range(config.width):
        logits = []
        for factor in (1 + step, 1 - step):
            changed = {name: values.copy() for name, values in inputs.items()}
            changed[kind][(*place, d)] *= factor
            logits.append(specified_logit(w, config, graph, changed["nodes"], changed["edges"], action))
        found[d] = (logits[0] - logits[1]) / (2 * step)
    return found


# --- prompt-only controls -----------------------------------------------------------------------------------------


def prompt_only_rule(train_labels: list[list[int]], asked: list[int], actions: int) -> Array:
    """The frequency rule's scores for one SAP, given as the list of actions asked for."""
    scores = np.zeros(actions)
    for action in asked:
        scores[action] = sum(action in labels for labels in train_labels) / len(train_labels) / len(asked)
    return scores


def prompt_only_network(w: Weights, asked: list[int], actions: int) -> tuple[Array, Array]:
    """Logits of a_s and a_t of the trained control for one SAP."""
    sap = np.zeros(actions)
    sap[asked] = 1.0
    logits = mlp(w.part("mlp"), sap)
    return logits[: actions + 1], logits[actions + 1 :]


# --- robustness and localisation, tables 6 to 9 -------------------------------------------------------------------


def walk_down(scores: list[float], hits: list[bool]) -> list[float]:
    """Precision at each hit, in descending order of score, ties in the order given."""
    found, count = [], 0
    for place, row in enumerate(sorted(range(len(scores)), key=lambda r: -scores[r]), 1):
        if hits[row]:
            count += 1
            found.append(count / place)
    return found


def robustness(a_s: Array, sap: Array, labels: Array, chosen: Array) -> dict[tuple[int, int], float]:
    """(L, i) → mAP in percent over the chosen rows with L labels, i >= 1 of them in the SAP."""
    cells: dict[tuple[int, int], list[int]] = {}
    for row in np.flatnonzero(chosen):
        L, i = sum(labels[row]), sum(a and b for a, b in zip(labels[row], sap[row], strict=True))
        if i:
            cells.setdefault((int(L), int(i)), []).append(row)
    found = {}
    for place, rows in cells.items():
        per_class = []
        for c in range(sap.shape[1]):
            precisions = walk_down([a_s[r, c] for r in rows], [labels[r, c] and sap[r, c] for r in rows])
            if precisions:
                per_class.append(sum(precisions) / len(precisions))
        found[place] = 100 * sum(per_class) / len(per_class)
    return found


def paper_summary(a_s: Array, a_u: Array, a_t: Array, sap: Array, labels: Array, chosen: Array) -> dict[str, float]:
    """Mean average precisions (percent) of the chosen rows under the paper's protocol, class by class.

    The truth of a_s is what is asked for and present, of a_u what is not asked for and present; where that is nothing,
    it is "no-action", the class after all others. a_t is of the rows whose video has a label.
    """
    actions = labels.shape[1]
    columns: dict[str, list[tuple[list[float], list[bool]]]] = {"a_t": []}
    rows = [r for r in range(len(labels)) if chosen[r]]
    labelled = [r for r in rows if any(labels[r])]
    for c in range(actions):
        columns["a_t"].append(([a_t[r, c] for r in labelled], [bool(labels[r, c]) for r in labelled]))
    for name, scores, asked in (("a_s", a_s, True), ("a_u", a_u, False)):
        columns[name] = []
        for c in range(actions + 1):
            truth = []
            for r in rows:
                present = [k for k in range(actions) if labels[r, k] and bool(sap[r, k]) == asked]
                truth.append(c in present if c < actions else not present)
            columns[name].append(([scores[r, c] for r in rows], truth))
        columns[f"{name}_actions"] = columns[name][:actions]
    found = {}
    for name, classes in columns.items():
        precisions = [walk_down(*column) for column in classes]
        means = [sum(p) / len(p) for p in precisions if p]  # a class without positives is skipped
        if means:
            found[name] = 100 * sum(means) / len(means)
    return found


def class_precision(hit: Array, actions: Array, scores: Array) -> float:
    """Percent: in each class the precisions at its hits, over all its rows; then the mean over classes."""
    per_class = []
    for c in set(actions.tolist()):
        rows = [r for r in range(len(actions)) if actions[r] == c]
        per_class.append(sum(walk_down([scores[r] for r in rows], [hit[r] for r in rows])) / len(rows))
    return 100 * sum(per_class) / len(per_class)


def score_at(graph: SceneGraph, times: Array, logit: float, s: Array, point: int) -> float:
    """a_s(c) · s_c(t) at one of the 25 points; frames of one time count as one, with their mean s."""
    t = point / 25 * graph.duration
    distinct = sorted(set(times.tolist()))
    values = [np.mean([s[n] for n in range(len(times)) if times[n] == time]) for time in distinct]
    if t <= distinct[0]:
        value = values[0]
    elif t >= distinct[-1]:
        value = values[-1]
    else:
        after = next(k for k, time in enumerate(distinct) if time > t)
        share = (t - distinct[after - 1]) / (distinct[after] - distinct[after - 1])
        value = (1 - share) * values[after - 1] + share * values[after]
    return value / (1 + np.exp(-logit))
