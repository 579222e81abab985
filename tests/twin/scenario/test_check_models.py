"""Models that do not exist, do not fit, or find no room: what is said, and what would do."""

import pytest

ONE = "world: {{regions: [{{name: west, servers: {servers}}}]}}\nmodels:\n  - {{{model}}}\n"


@pytest.mark.parametrize(
    ("model", "setting", "said"),
    [
        ("model: llama-3.1-80b", "model", "no model is called 'llama-3.1-80b'; did you mean 'llama-3.1-8b'?"),
        (
            "accelerator: h100",
            "accelerator",
            "no accelerator is called 'h100'; did you mean 'h100-pcie' or 'h100-sxm'?",
        ),
        (
            "model: llama-3.1-70b",
            "parallelism",
            (
                "its weights take 141 GB of 80 GB. Split it over more accelerators or use a smaller precision. It would fit"
                " as tp2 in bf16 or tp2 in fp8."
            ),
        ),
        ("parallelism: 4", "parallelism", "expected text, not 4"),
        ("parallelism: tp0", "parallelism", "'tp0' is no parallelism; write for example tp4, or tp8ep8."),
        ("parallelism: tp3", "parallelism", "32 heads of llama-3.1-8b cannot be split by 3"),
        (
            "parallelism: tp16",
            "parallelism",
            (
                "one replica takes 16 accelerators, a server in west has 8: the links between servers are slower than"
                " what step times are known for"
            ),
        ),
        (
            "context_tokens: 600000",
            "context_tokens",
            (
                "the KV cache of a replica on h100-sxm holds 417,327 tokens, fewer than one request of 600,000: vLLM"
                " would not start. Lower context_tokens or split over more."
            ),
        ),
        (
            "replicas: 20",
            "replicas",
            "20 x h100-sxm are asked for in west (3 servers of 8), 16 stand there (2 servers)",
        ),
        (
            "accelerator: a100-80-sxm",
            "replicas",
            "no a100-80-sxm stands in west; there is: h100-sxm",
        ),
        ("engine: {step_tokens: 100}", "engine", "step_tokens must exceed max_sequences"),
        ("profile: none.json", "profile", "cannot be read"),
    ],
)
def test_a_model_that_cannot_be(refused, model, setting, said):
    found = refused(ONE.format(servers=2, model=model))
    assert len(found) == 1
    assert found[0][0].startswith("s.yaml:3:")
    assert found[0][1] == f"models.0.{setting}"
    assert said in found[0][2]


def test_two_models_of_one_name(refused):
    assert refused("models: [{name: a}, {name: a, model: qwen3-8b}]\n") == [
        ("s.yaml:1:28", "models.1.name", "models.0 is called 'a' already")
    ]


def test_two_engines_that_link_prompts_differently(refused):
    found = refused("models: [{name: a}, {name: b, engine: {kind: llamacpp}}]\n")
    assert found[0][1] == "models.1.engine.link_tokens"
