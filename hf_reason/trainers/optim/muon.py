"""Muon for the layers' matrices and AdamW for the rest, as one optimizer the Trainer can save and resume."""

from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils import DistributedType
from torch import nn

if TYPE_CHECKING:
    from hf_reason.trainers.cot_sft_config import CoTSFTConfig

# where every process has whole matrices
_WHOLE = (
    DistributedType.NO,
    DistributedType.MULTI_CPU,
    DistributedType.MULTI_GPU,
    DistributedType.MULTI_XPU,
    DistributedType.MULTI_NPU,
)


class MuonWithAdamW(torch.optim.Optimizer):
    """`torch.optim.Muon` on hidden matrices and `torch.optim.AdamW` on embeddings, head, norms and biases.

    Muon (Jordan et al. 2024) is defined for matrices of hidden layers only. The two optimizers share this one's
    `param_groups`, so a scheduler of the Trainer drives both.

    Args:
        model: The model. Parameters that do not require gradients are left out.
        muon_learning_rate: Learning rate of the matrices.
        learning_rate: Learning rate of the rest.
        betas: AdamW's decay rates.
        weight_decay: For the matrices and for AdamW's parameters of two dimensions.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        muon_learning_rate: float,
        learning_rate: float,
        betas: tuple[float, float] = (0.9, 0.95),
        weight_decay: float = 0.0,
    ):
        outer = {
            id(parameter)
            for module in model.modules()
            if isinstance(module, nn.Embedding) or module is getattr(model, "get_output_embeddings", lambda: None)()
            for parameter in module.parameters(recurse=False)
        }
        trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
        matrices = [p for p in trainable if p.ndim == 2 and id(p) not in outer]
        tables = [p for p in trainable if p.ndim >= 2 and not (p.ndim == 2 and id(p) not in outer)]
        vectors = [p for p in trainable if p.ndim < 2]
        if not matrices:
            raise ValueError("The model has no trainable matrix for Muon. Unset muon_learning_rate.")
        self._muon = torch.optim.Muon(matrices, lr=muon_learning_rate, weight_decay=weight_decay)
        rest: list[dict[str, Any]] = [
            {"params": tables, "weight_decay": weight_decay},
            {"params": vectors, "weight_decay": 0.0},
        ]
        self._adamw = torch.optim.AdamW([g for g in rest if g["params"]], lr=learning_rate, betas=betas)
        super().__init__([{"params": matrices}, *[g for g in rest if g["params"]]], {})
        self._share_groups()

    def _share_groups(self) -> None:
        # The very same dicts: what a scheduler writes into `lr` here is what the inner optimizers read.
        self.param_groups = [*self._muon.param_groups, *self._adamw.param_groups]

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        loss = closure() if closure is not None else None
        self._muon.step()
        self._adamw.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        return {"muon": self._muon.state_dict(), "adamw": self._adamw.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._muon.load_state_dict(state_dict["muon"])
        self._adamw.load_state_dict(state_dict["adamw"])
        self._share_groups()


class MuonFactory:
    """What `Trainer(optimizer_cls_and_kwargs=...)` calls to build an optimizer from the whole model."""

    def __call__(self, model: nn.Module, **kwargs: Any) -> MuonWithAdamW:
        return MuonWithAdamW(model, **kwargs)


def muon_of(args: "CoTSFTConfig") -> "tuple[type[Any], dict[str, Any]] | None":
    """`optimizer_cls_and_kwargs` of a configuration; `None` without a `muon_learning_rate`.

    Raises:
        ValueError: if the processes hold parts of the matrices.
    """
    if args.muon_learning_rate is None:
        return None
    if args.distributed_state.distributed_type not in _WHOLE:  # type: ignore[union-attr]
        raise ValueError("Muon needs whole matrices: use DDP or one process, or unset muon_learning_rate.")
    return MuonFactory, {
        "muon_learning_rate": args.muon_learning_rate,
        "learning_rate": args.learning_rate,
        "betas": (args.adam_beta1, args.adam_beta2),
        "weight_decay": args.weight_decay,
    }
