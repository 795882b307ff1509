"""The fitting itself: a decoder that learns step by step, and the mean of its latest weights, which is kept."""

import copy
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mobilesam.modeling import Sam
from mobilesam.predictor import SamPredictor
from mobilesam.training.examples import Example, batches, masks_of
from mobilesam.training.loss import loss_of, prompt_for
from mobilesam.training.recipe import Recipe


def steps_over(examples: list[Example], recipe: Recipe) -> int:
    """Return how many steps a fit will have, about."""
    return recipe.passes_over(masks_of(examples)) * len(list(batches(examples, np.random.default_rng(0), recipe.batch)))


class Fit:
    """A copy of a model whose mask decoder learns from examples.

    `one_pass` goes over them once; `state` and `load_state` keep all that the next pass depends on.
    """

    def __init__(self, sam: Sam, examples: list[Example], photographs: list[Example], recipe: Recipe):
        self.examples, self.photographs, self.recipe = examples, photographs, recipe
        self.passes = recipe.passes_over(masks_of(examples))
        self.done = 0
        sam = copy.deepcopy(sam).requires_grad_(False)
        self.predictor = SamPredictor(sam)
        self.weights: dict[str, Tensor] = dict(sam.mask_decoder.requires_grad_(True).named_parameters())
        self.before = {name: value.detach().clone() for name, value in self.weights.items()}
        self.mean = {name: value.detach().clone() for name, value in self.weights.items()}
        self.optimizer = torch.optim.AdamW(self.weights.values(), recipe.rate, weight_decay=0.0)
        self.steps = steps_over(examples, recipe)
        self.step = 0

    def one_pass(self, tell: Callable[[float], Any] = lambda loss: None) -> None:
        """Go over all objects once; `tell` is called after each step with its mean loss an object."""
        rng = np.random.default_rng([self.recipe.seed, self.done])
        for batch in self._batches(self.done):
            kind = self.recipe.prompts
            kind = ("box", "point")[rng.integers(2)] if kind == "both" else kind
            count, loss = sum(len(some) for _, some in batch), 0.0
            for _ in range(self.recipe.replay if self.photographs else 0):
                photograph = self.photographs[rng.integers(len(self.photographs))]
                some = rng.permutation(len(photograph.objects))[: self.recipe.batch].tolist()
                self._learn(photograph, some, kind if kind == "point" else "box", rng, len(some))
            for example, some in batch:
                loss += self._learn(example, some, kind, rng, count)
            self._update()
            tell(loss)
        self.done += 1

    def _batches(self, number: int) -> Iterator[list[tuple[Example, list[int]]]]:
        rng = np.random.default_rng([self.recipe.seed, number, 1])
        seen = [one.mirror if one.mirror is not None and rng.random() < 0.5 else one for one in self.examples]
        return batches(seen, rng, self.recipe.batch)

    def _learn(self, example: Example, some: list[int], kind: str, rng: np.random.Generator, count: int) -> float:
        """Add the gradient of some objects of an image, and return their share of the mean loss of `count` objects."""
        objects = [example.objects[i] for i in some]
        prompts = [prompt_for(one, kind, example.embedding.original_hw, rng) for one in objects]
        loss = loss_of(self.predictor, example, objects, prompts) / count
        loss.backward()
        return loss.item()

    def _update(self) -> None:
        torch.nn.utils.clip_grad_norm_(self.weights.values(), 1.0)
        warm_up = max(1, self.steps // 10)
        done = min(1.0, self.step / self.steps)  # another order can come to a step more
        rate = min((self.step + 1) / warm_up, (1 + math.cos(math.pi * done)) / 2)
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.rate * rate
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.step += 1
        keep = min(self.recipe.mean, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for name, value in self.weights.items():
                if self.recipe.pull:
                    value.lerp_(self.before[name], self.recipe.pull * rate)
                self.mean[name].lerp_(value, 1 - keep)

    def state(self) -> dict[str, Any]:
        """Return what the next pass depends on, as `torch.save` takes it."""
        own = {"weights": {name: value.detach() for name, value in self.weights.items()}, "mean": self.mean}
        return {**own, "optimizer": self.optimizer.state_dict(), "done": self.done, "step": self.step}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from a `state` of the same examples, photographs and recipe."""
        with torch.no_grad():
            for kept, values in ((self.weights, state["weights"]), (self.mean, state["mean"])):
                for name, value in kept.items():
                    value.copy_(values[name])
        self.optimizer.load_state_dict(state["optimizer"])
        self.done, self.step = state["done"], state["step"]


def blended(sam: Sam, decoders: list[dict[str, Tensor]], share: float) -> Sam:
    """Return a copy of a model whose decoder goes a share of the way to the mean of other decoders' weights."""
    sam = copy.deepcopy(sam)
    with torch.no_grad():
        for name, value in sam.mask_decoder.named_parameters():
            value.lerp_(torch.stack([decoder[name] for decoder in decoders]).mean(0), share)
    return sam
