"""Pushing what `prune`, `quantize` and `compress` have made: only a model that passed its gate."""

from dataclasses import dataclass, fields
from typing import Any

from hf_reason._options import option


@dataclass
class PushArguments:
    """Where a finished model goes; names and meanings are those of transformers' `TrainingArguments`."""

    push_to_hub: bool = option(
        False, "Push the model, its report and its card. A model that the gate refuses is never pushed.", card=False
    )
    hub_model_id: str | None = option(None, "Its name on the Hub. Default: that of output_dir.", card=False)
    hub_private_repo: bool | None = option(
        None, "Make the repository private. Default: what the account or its organisation says.", card=False
    )
    hub_token: str | None = option(
        None, "Token of the Hub. Default: HF_TOKEN, or that of `hf auth login`.", card=False
    )


PUSH_OPTIONS = tuple(item.name for item in fields(PushArguments))


def check_can_push(args: Any) -> None:
    """Before the work: is there a token that the Hub knows, and a name that it takes?

    Raises:
        ValueError: if not.
    """
    if not args.push_to_hub:
        if args.hub_model_id:
            raise ValueError(
                f"hub_model_id {args.hub_model_id} is given, but nothing is pushed: add --push_to_hub true."
            )
        return
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError
    from huggingface_hub.utils import validate_repo_id

    from .finish import repository_of

    name = repository_of(args)
    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise ValueError(f"{name} cannot be the name of a repository: {error} Give another --hub_model_id.") from error
    advice = "Log in with `hf auth login`, set HF_TOKEN, or leave push_to_hub out."
    try:
        HfApi(token=args.hub_token).whoami()
    except LocalTokenNotFoundError as error:
        raise ValueError(f"push_to_hub needs a token. {advice}") from error
    except HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        if status in (401, 403):
            raise ValueError(f"The Hub refuses the token (HTTP {status}). {advice}") from error
        later = "Leave push_to_hub out: the same command with it pushes the finished model later."
        raise ValueError(f"The Hub does not answer: {error}. {later}") from error


def push_if_asked(args: Any) -> None:
    """Push the finished model if the arguments say so and it has not been pushed."""
    if not args.push_to_hub:
        return
    from .finish import push_folder
    from .resume import was_pushed

    if not was_pushed(str(args.output_dir)):
        push_folder(args)
