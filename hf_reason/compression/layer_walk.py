"""Visit the layers of a model in the order of its forward pass, and run each on the calibration texts again and again.

A layer is changed (quantised, say) before the next one is visited, so that every layer sees the inputs that the
changed layers before it give. Where the layers form one chain (each called once in a pass, each on the output of the
one before), the inputs are kept and only the layer itself runs; elsewhere (three stacks, layers that are called twice)
the whole model runs.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn


class _Ended(Exception):
    """All modules have their inputs."""


@contextmanager
def _ends_at(modules: Collection[nn.Module]) -> Iterator[Callable[[], None]]:
    """Inside, a pass ends with `_Ended` when each of the modules has been called.

    Only if the first pass has called each of them once: an expert may be called never, a projection twice. Yields what
    is to be called after each pass.
    """
    calls: Counter[int] = Counter()
    ends: list[bool] = []

    def hook(module: nn.Module, args: Any) -> None:
        calls[id(module)] += 1
        if ends and ends[0] and len(calls) == len(modules):
            raise _Ended

    def ready() -> None:
        if not ends:
            ends.append(bool(modules) and len(calls) == len(modules) and set(calls.values()) == {1})
        calls.clear()

    handles = [module.register_forward_pre_hook(hook) for module in modules]
    try:
        yield ready
    finally:
        for handle in handles:
            handle.remove()


@dataclass
class _Call:
    """A call of a layer: its first input, and everything else that it was given."""

    states: torch.Tensor
    others: tuple[Any, ...]
    named: dict[str, Any]
    output: Any = None


@dataclass
class VisitedLayer:
    """A layer on the way.

    Attributes:
        name: Full name.
        module: The layer.
        run: Runs the layer on all texts, or on the first `count`. Where it can, it ends as soon as the modules
            `until` have their inputs: attention is not followed by the feed-forward part for its own inputs.
    """

    name: str
    module: nn.Module
    run: Callable[..., None]


@dataclass
class LayerWalk:
    """The layers of a model with the texts that they are run on.

    Args:
        model: A causal language model.
        names: Full names of its layers.
        examples: Encoded texts, `input_ids` each.
    """

    model: Any
    names: Sequence[str]
    examples: Sequence[Mapping[str, Any]]
    _calls: list[dict[str, list[_Call]]] = field(default_factory=list)
    _order: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.names)

    @torch.no_grad()
    def __iter__(self) -> Iterator[VisitedLayer]:
        training = self.model.training
        self.model.eval()
        try:
            self._record()
            walk = self._along_the_chain() if self._is_a_chain() else self._by_whole_passes()
            yield from walk
        finally:
            self._calls.clear()
            self.model.train(training)

    def _pass(self, example: Mapping[str, Any]) -> None:
        device = next(self.model.parameters()).device
        ids = torch.tensor([list(example["input_ids"])], device=device)
        self.model.base_model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False)  # without the head

    def _record(self) -> None:
        """What each layer is given in a pass over each text, and in which order the layers are called."""
        current: dict[str, list[_Call]] = {}
        order: dict[str, None] = {}

        def before(name: str) -> Callable[..., None]:
            def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
                order[name] = None
                named = dict(kwargs)
                states = args[0] if args else named.pop("hidden_states", None)
                current.setdefault(name, []).append(_Call(states, args[1:], named))

            return hook

        def after(name: str) -> Callable[..., None]:
            def hook(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
                current[name][-1].output = _first(output)

            return hook

        handles = []
        for name in self.names:
            layer = self.model.get_submodule(name)
            handles.append(layer.register_forward_pre_hook(before(name), with_kwargs=True))
            handles.append(layer.register_forward_hook(after(name), with_kwargs=True))
        try:
            for example in self.examples:
                self._pass(example)
                self._calls.append(dict(current))
                current.clear()
        finally:
            for handle in handles:
                handle.remove()
        self._order = [*order, *(name for name in self.names if name not in order)]

    def _is_a_chain(self) -> bool:
        for calls in self._calls:
            if list(calls) != self._order or any(len(found) != 1 for found in calls.values()):
                return False
            for one, two in zip(self._order, self._order[1:], strict=False):
                if calls[two][0].states is not calls[one][0].output:
                    return False
        return True

    def _along_the_chain(self) -> Iterator[VisitedLayer]:
        states = [calls[self._order[0]][0].states for calls in self._calls]
        for calls in self._calls:
            for found in calls.values():
                found[0].output = found[0].states = None  # type: ignore[assignment]  # only the first input is kept
        for name in self._order:
            module = self.model.get_submodule(name)

            def run(
                count: int | None = None,
                until: Collection[nn.Module] = (),
                name: str = name,
                module: nn.Module = module,
            ) -> None:
                with _ends_at(until) as ready:
                    for number, calls in enumerate(self._calls[:count]):
                        call = calls[name][0]
                        with suppress(_Ended):
                            module(states[number], *call.others, **call.named)
                        ready()

            yield VisitedLayer(name, module, run)
            for number, calls in enumerate(self._calls):
                call = calls[name][0]
                states[number] = _first(module(states[number], *call.others, **call.named))

    def _by_whole_passes(self) -> Iterator[VisitedLayer]:
        self._calls.clear()

        def run(count: int | None = None, until: Collection[nn.Module] = ()) -> None:
            for example in self.examples[:count]:
                self._pass(example)

        for name in self._order:
            yield VisitedLayer(name, self.model.get_submodule(name), run)


def _first(output: Any) -> Any:
    return output[0] if isinstance(output, tuple) else output
