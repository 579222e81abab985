"""Let a request in, or refuse it with a reason and a time?

Decided here from the request's size and the model's policy; what its key, user, tenant and model may still
use is for ``accounts``. It refuses to know which replicas there are: that is routing's business.
"""

from __future__ import annotations

from underlay.domain.errors import BadRequest, PromptTooLong, UnknownModel
from underlay.domain.policy import DeskSettings, ModelPolicy

from .events import Arrived

#: No tokenizer in use makes tokens of more bytes than this on average; beyond it a prompt cannot fit.
BYTES_PER_TOKEN_MAX = 48


def model_policy(models: dict[str, ModelPolicy], asked: Arrived) -> ModelPolicy:
    """Find the model's policy; raises ``UnknownModel``, or ``BadRequest`` if it cannot do the operation."""
    policy = models.get(asked.model)
    if policy is None:
        served = ", ".join(models)
        raise UnknownModel(f"model '{asked.model}' is not served here; there is: {served}", param="model")
    if asked.operation not in policy.operations:
        raise BadRequest(f"model '{asked.model}' does not serve {asked.operation}s", param="model")
    return policy


def check_size(asked: Arrived, policy: ModelPolicy, settings: DeskSettings) -> None:
    """Refuse what cannot fit, before any engine sees it; the engine counts exactly later."""
    context = policy.context_tokens
    if asked.prompt_bytes > context * BYTES_PER_TOKEN_MAX:
        raise PromptTooLong(
            f"the prompt has {asked.prompt_bytes} bytes; the context of '{policy.name}' is {context} tokens"
        )
    if asked.max_tokens is not None and asked.max_tokens > context:
        raise BadRequest(
            f"{asked.max_tokens} tokens were asked for; the context of '{policy.name}' is {context} tokens",
            param="max_tokens",
        )
    if asked.strands > settings.strands_max:
        raise BadRequest(f"{asked.strands} answers were asked for; at most {settings.strands_max}", param="n")
