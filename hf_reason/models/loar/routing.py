"""Routing: what LoAR does in one pass of its model, and what it learns of it for the trainer."""

import logging
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn.functional import pad
from transformers import DynamicCache

from hf_reason.models.layer_selection import reasoning_stack

from .attention import NAME
from .cache import RoutedLayer, routed_cache
from .configuration import LoARConfig
from .heads import HeadChoice
from .hooks import PROJECTIONS, PROMPT_MASK, TASKS, attentions, before_end, rows_of
from .router import Route, Routers, balance_term, choose_groups, straight_through, with_loss

_log = logging.getLogger(__name__)


class Routing(nn.Module):
    """The part of `LoAR` that acts while its model runs.

    Attributes:
        config: Its configuration.
        groups: Key/value groups of a layer.
        units: Groups or query heads of a layer, whichever `config.grain` says are routed.
        budgets: Units that work in each layer; change it (`search_budgets` does) and the next pass follows.
        progress: Fraction of the training that is over; the budget falls from all units to its value until
            `anneal_ratio`. 1 outside training.
        rows: Sequences of an optimizer step over all processes, set by the trainer; the balance term is their mean.
        processes: Processes whose gradients are averaged.
        loss_scale: By which the training's loss is multiplied (float16's gradient scaler).
        prompt_length: Of the rows that `generate` is at work on; `None` outside of it.
        prompt_ends: `(batch,)`, the column behind each row's prompt, where `generate` continues rows that have been
            begun (`prompts_end_at`); `None` otherwise.
    """

    def __init__(self, model: Any, config: LoARConfig):
        super().__init__()
        stack = reasoning_stack(model)
        self.config = config
        self._layers = attentions(model, stack.layers)
        text = model.config.get_text_config()
        self.groups = int(text.num_key_value_heads)
        self.units = int(text.num_attention_heads) if config.grain == "heads" else self.groups
        self.budgets = config.budgets(len(self._layers), self.units)
        self.progress, self.rows, self.processes, self.loss_scale = 1.0, 0, 1, 1.0
        self.prompt_length: int | None = None
        self.prompt_ends: torch.Tensor | None = None
        static = config.static_groups
        self.routers = None if static else Routers(config, text.hidden_size, len(self._layers), self.units)
        self._task: list[int] | None = None
        self._prompt: torch.Tensor | None = None
        self._present: torch.Tensor | None = None
        self._tasks: torch.Tensor | None = None
        self._warned = False
        self._noted: dict[int, torch.Tensor] = {}
        # gates of a layer, in the place of its router; for a calibration
        self.probe: Callable[[int], torch.Tensor] | None = None

    def _begin(self, backbone: Any, arguments: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
        """Before the backbone: whose prompt is where, and a cache that knows the choice."""
        _check_attention(backbone.config, kwargs)
        given, tasks = kwargs.pop(PROMPT_MASK, None), kwargs.pop(TASKS, None)
        ids = kwargs.get("input_ids", arguments[0] if arguments else None)
        like = ids if ids is not None else kwargs.get("inputs_embeds")
        assert like is not None
        batch, count = like.shape[:2]
        cache, use = kwargs.get("past_key_values"), kwargs.get("use_cache")
        if use is None:
            # routers learn in passes without a cache
            learns = backbone.training and torch.is_grad_enabled()
            use = kwargs["use_cache"] = backbone.config.use_cache and not learns
        windows = [attention.loar.window for attention in self._layers]
        if cache is None and use:
            cache = DynamicCache()
        if cache is not None:
            kwargs["past_key_values"] = cache = routed_cache(cache, windows)
        mask = kwargs.get("attention_mask", arguments[1] if len(arguments) > 1 else None)
        flat = mask if isinstance(mask, torch.Tensor) and mask.ndim == 2 else None
        if any(windows) and mask is not None and flat is None:
            raise ValueError("With a window LoAR needs the attention mask as (batch, tokens), 1 where a token is.")
        self._present = None if flat is None or bool(flat.all()) else flat.bool()
        if cache is None or cache.get_seq_length() == 0:
            present = torch.ones(batch, count, dtype=torch.bool, device=like.device)
            if flat is not None:
                present = flat[:, -count:].bool()
            _check_unpacked(kwargs.get("position_ids"), present)
            if given is not None:  # the virtual tokens of prompt tuning, in front of it, are prompt
                prompt: torch.Tensor | None = pad(given.bool(), (count - given.shape[1], 0), value=True)
            else:
                prompt = self._prompt_of(ids, count, like.device, bool(use))
            self._prompt = present if prompt is None else present & prompt.to(present.device)
            self._tasks = self._task_of_rows(tasks, batch, like.device)
        return arguments, kwargs

    def _prompt_of(self, ids: torch.Tensor | None, count: int, device: torch.device, use: bool) -> torch.Tensor | None:
        """Where the prompt is, when nobody has said it: by its end, or all that `generate` was given."""
        prompt = before_end(ids, self.config.prompt_end_ids)
        if self.prompt_length is not None:
            end = self.prompt_length if self.prompt_ends is None else self.prompt_ends.to(device)[:, None]
            asked = torch.arange(count, device=device)[None] < end
            return asked if prompt is None else asked & prompt
        if prompt is None and not use and self.routers is not None and not self._warned:
            self._warned = True
            _log.warning(
                "LoAR reads this whole text as a prompt, the answer too, since nothing says where the prompt ends. "
                "Pass labels, or call LoARConfig.set_prompt_end(tokenizer)."
            )
        return prompt

    def _task_of_rows(self, tasks: torch.Tensor | None, batch: int, device: torch.device) -> torch.Tensor | None:
        if self.routers is None or self.routers.tasks is None:
            return None
        if tasks is None:
            set_now = self._task or [-1]
            if batch % len(set_now):
                raise ValueError(f"{len(set_now)} tasks were set for a batch of {batch} rows. Set one, or one a row.")
            # beams and samples of a row stand next to each other
            return torch.tensor(set_now, device=device).repeat_interleave(batch // len(set_now))
        if self.training and self.config.task_dropout > 0:
            hidden = torch.rand(batch, device=device) < self.config.task_dropout
            return torch.where(hidden, -1, tasks.to(device))
        return tasks.to(device)

    def _pooled(self, states: torch.Tensor) -> torch.Tensor:
        """Mean of the prompt's states, with the task's embedding, `(batch, width)`."""
        assert self._prompt is not None and self.routers is not None
        weight = self._prompt.to(states.device, states.dtype).unsqueeze(-1)
        # summed in float32: a long prompt overflows float16
        pooled = (states * weight).sum(dim=1, dtype=torch.float32) / self._prompt.sum(dim=1)[:, None].clamp(min=1)
        if self.routers.tasks is not None and self._tasks is not None:
            tasks = self._tasks.to(self.routers.tasks.weight.device)
            pooled = pooled + (self.routers.tasks(tasks.clamp(min=0)) * (tasks >= 0)[:, None]).to(pooled)
        return pooled

    def budget_now(self, layer: int) -> int:
        """Units that work in a layer at this point of the training."""
        target, anneal = self.budgets[layer], self.config.anneal_ratio
        if not self.training or self.routers is None or anneal == 0 or self.progress >= anneal:
            return target
        return max(target, math.ceil(self.units - (self.units - target) * self.progress / anneal))

    def _before_attention(
        self, layer: int, attention: Any, arguments: tuple, kwargs: dict[str, Any]
    ) -> tuple[tuple, dict[str, Any]]:
        """Choose what works in this pass, or take the choice of the cache."""
        route: Route = attention.loar
        route.groups = route.heads = route.gates = None
        route.present, route.sliced = self._present, False
        self._after_attention(attention)  # of a pass that was broken off
        states = kwargs.get("hidden_states", arguments[0] if arguments else None)
        assert states is not None
        cache = kwargs.get("past_key_values")
        held: RoutedLayer | None = None if cache is None else cache.layers[layer]
        if held is not None and held.groups is not None:
            route.groups, route.heads = held.groups, held.heads
        else:
            budget = self.budget_now(layer)
            states = self._choose(layer, route, states, budget, train=self.training and held is None)
            if self.config.grain == "heads" and route.groups is not None:
                route.heads = HeadChoice.of(route.groups, attention.num_key_value_groups, self.groups)
                route.groups = route.heads.groups
            if held is not None and route.groups is not None:
                held.groups, held.heads = route.groups, route.heads
        working = route.groups if route.heads is None else route.heads.heads
        if working is not None and working.shape[1] == self.units:
            route.groups = route.heads = None  # all work; the cache keeps the choice, so that it is not made again
        self._slice(attention, route, held)
        if "hidden_states" in kwargs:
            return arguments, {**kwargs, "hidden_states": states}
        return (states, *arguments[1:]), kwargs

    def _choose(self, layer: int, route: Route, states: torch.Tensor, budget: int, train: bool) -> torch.Tensor:
        """Fill in the route; returns the states, which carry the balance term's gradient in training."""
        static = self.config.static_groups
        if static is not None:
            chosen = torch.tensor(sorted(static[layer]), device=states.device)
            route.groups = chosen.expand(states.shape[0], -1)
            return states
        assert self.routers is not None
        if self.probe is not None:
            route.gates = self.probe(layer)
            return states
        shared = self.routers.shared[layer]
        scores = self.routers.routers[layer](self._pooled(states))
        probabilities, groups = scores.sigmoid(), choose_groups(scores, budget, shared)
        if not train:
            route.groups = groups
            return states
        route.gates = straight_through(probabilities, groups, shared)
        self._note(layer, groups)
        if self.config.balance_weight > 0 and len(shared) < self.units:
            term = balance_term(probabilities, self.routers.usage[layer], budget, shared).sum()
            scale = (
                self.config.balance_weight * self.loss_scale * self.processes / max(self.rows or states.shape[0], 1)
            )
            states = with_loss(states, scale / len(self._layers) * term)
        return states

    def _note(self, layer: int, groups: torch.Tensor) -> None:
        """Add to how often each unit worked, and in how many sequences that was."""
        used = torch.zeros(groups.shape[0], self.units + 1, device=groups.device).scatter(1, groups, 1.0)
        used[:, -1] = 1
        before = self._noted.get(layer)
        self._noted[layer] = used.sum(dim=0) + (0 if before is None else before)

    def _slice(self, attention: Any, route: Route, held: RoutedLayer | None) -> None:
        """At one row, multiply the working heads' rows of the projections only; they are kept with the cache."""
        if held is None or route.groups is None or route.groups.shape[0] != 1 or torch.is_grad_enabled():
            return
        modules = {name: getattr(attention, name) for name in PROJECTIONS}
        if any("rows" not in vars(module) for module in modules.values()):
            return
        if held.projections is None:
            sizes = attention.num_key_value_groups, attention.head_dim
            heads = None if route.heads is None else route.heads.heads[0]
            held.projections = rows_of(modules, route.groups[0], *sizes, heads)
        for name, module in modules.items():
            module.rows = held.projections[name]
        route.sliced = True

    @staticmethod
    def _after_attention(attention: Any, *_: Any) -> None:
        for name in PROJECTIONS:
            if "rows" in vars(getattr(attention, name)):
                getattr(attention, name).rows = None

    def update_usage(self, decay: float = 0.9, reduce: Any = None) -> None:
        """After an optimizer step: the running usage of each unit follows what was chosen in it.

        Args:
            decay: Of the running mean.
            reduce: Sums a tensor over the processes.
        """
        if self.routers is None or not self._noted:
            return
        sums = torch.stack([self._noted[layer] for layer in sorted(self._noted)])  # (layers, units + 1)
        sums = sums if reduce is None else reduce(sums, "sum")
        used = sums[:, :-1] / sums[:, -1:].clamp(min=1)
        self.routers.usage.mul_(decay).add_(used.to(self.routers.usage), alpha=1 - decay)
        self._noted.clear()


def _check_unpacked(positions: torch.Tensor | None, present: torch.Tensor) -> None:
    if positions is None or positions.ndim != 2:
        return
    if bool(((positions[:, 1:] < positions[:, :-1]) & present[:, 1:] & present[:, :-1]).any()):
        raise ValueError("LoAR routes a row as one sequence: set packing=False and padding_free=False.")


def _check_attention(config: Any, kwargs: dict[str, Any]) -> None:
    if config._attn_implementation != NAME:
        raise ValueError(
            f"The attention implementation was set to {config._attn_implementation!r} after apply_loar, which would "
            "leave the routing out. Call model.loar.unload() first, set it, and apply LoAR again."
        )
    asked = kwargs.get("output_attentions")
    if config.output_attentions if asked is None else asked:
        raise ValueError("LoAR computes no attention weights: leave output_attentions out, or model.loar.unload().")
