"""ReasonerLoRATrainer: which layers are trained, the ranking, the proof, QLoRA, adapters, bad input."""

import copy
import json
import os
import subprocess
import sys

import pytest
import torch
from peft import LoraConfig, PeftModel
from tiny import save_model, tiny_qwen2, tiny_step_reasoner, tiny_trainer
from transformers import AutoModelForCausalLM

from hf_reason.models.layer_selection import parse_layers, reasoning_stack
from hf_reason.models.peft_adapters import AdapterError, adapter_of, base_fingerprint, load_adapters
from hf_reason.text import encode
from hf_reason.trainers import ReasonerLoRAConfig, ReasonerLoRATrainer
from hf_reason.trainers.layer_ranking import RANKING_FILE, rank_layers

LORA = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"], "task_type": "CAUSAL_LM"}


@pytest.fixture
def model(tokenizer):
    """A Qwen2 of four layers."""
    return tiny_qwen2(tokenizer, num_hidden_layers=4)


def _trainer(tmp_path, model, tokenizer, records, lora=None, **options):
    adapter = {"peft_config": LoraConfig(**LORA) if lora is None else lora}
    settings = {"ranking_records": 8, **options}
    return tiny_trainer(
        ReasonerLoRATrainer, ReasonerLoRAConfig, tmp_path, model, tokenizer, records, None, adapter, **settings
    )


def _layers_with_lora(model) -> set[int]:
    names = [name for name, value in model.named_parameters() if "lora_" in name and value.requires_grad]
    assert [n for n, v in model.named_parameters() if v.requires_grad] == names
    return {int(name.split("layers.")[1].split(".")[0]) for name in names}


def _logits(model, tokenizer):
    model.eval()
    ids = torch.tensor([tokenizer("小明有12个苹果")["input_ids"]])
    with torch.no_grad():
        return model(input_ids=ids).logits


@pytest.mark.parametrize(
    ("text", "layers"),
    [
        ("1-2", {1, 2}),
        ("0,3", {0, 3}),
        ("model.layers.2", {2}),
        ("0-1,model.layers.3", {0, 1, 3}),
        ("all", {0, 1, 2, 3}),
    ],
)
def test_layers_by_range_number_and_name(tmp_path, model, tokenizer, records, text, layers, capsys):
    trainer = _trainer(tmp_path, model, tokenizer, records, reasoner_layers=text)
    assert _layers_with_lora(trainer.model) == layers
    trainable = sum(p.numel() for p in trainer.model.parameters() if p.requires_grad)
    total = sum(p.numel() for p in trainer.model.parameters())
    assert f"Trainable: {trainable:,} of {total:,} parameters" in capsys.readouterr().out


def test_only_the_lora_moves_and_the_hash_says_so(tmp_path, model, tokenizer, records, capsys):
    trainer = _trainer(tmp_path, model, tokenizer, records, reasoner_layers="2")
    before = {name: value.clone() for name, value in trainer.model.named_parameters()}
    assert trainer.base == base_fingerprint(model)  # with and without adapters
    trainer.train()
    for name, value in trainer.model.named_parameters():
        assert torch.equal(value, before[name]) != ("lora_" in name), name
    assert "No weight of the base model moved" in capsys.readouterr().out


@pytest.mark.parametrize("which", ["lm_head", "norm", "q_proj.base_layer"])
def test_a_base_weight_that_moves_is_found(tmp_path, model, tokenizer, records, which):
    trainer = _trainer(tmp_path, model, tokenizer, records, reasoner_layers="2")
    name, weight = next((n, p) for n, p in trainer.model.named_parameters() if which in n)
    with torch.no_grad():
        weight.flatten()[0] += 1e-3
    with pytest.raises(ValueError, match="moved in training"):
        trainer.check_base_unmoved()


def _without_reasoner(config):
    values = {**config.to_dict(), "num_reasoner_layers": 0, "num_hidden_layers": 3}
    return type(config)(**{**values, "layer_types": ["full_attention"] * 3})


def test_of_a_step_reasoner_the_reasoner_is_trained(tmp_path, tokenizer, records):
    model = tiny_step_reasoner(tokenizer, num_encoder_layers=2, num_reasoner_layers=2)
    lora = LoraConfig(**{**LORA, "target_modules": "all-linear"})
    trainer = _trainer(tmp_path, model, tokenizer, records, lora)
    names = [name for name, value in trainer.model.named_parameters() if value.requires_grad]
    assert names and all(".reasoner." in name and "lora_" in name for name in names)
    assert {int(name.split("reasoner.")[1].split(".")[0]) for name in names} == {0, 1}
    assert {"q_proj", "o_proj", "down_proj"} <= {name.split(".")[-4] for name in names}
    trainer.train()
    with pytest.raises(ValueError, match="no reasoner layers"):
        reasoning_stack(type(model)(_without_reasoner(model.config)))


def test_ranking_is_the_fisher_score_written_from_its_definition(model, tokenizer, records):
    stack = reasoning_stack(model)
    examples = [encode(record, tokenizer) for record in records[:3]]
    before = {name: value.clone() for name, value in model.named_parameters()}
    ranking = rank_layers(model, stack, examples, LoraConfig(**LORA), device=torch.device("cpu"))
    assert type(model.model.layers[0].self_attn.q_proj) is torch.nn.Linear and not hasattr(model, "peft_config")
    assert "forward" not in model.__dict__
    assert all(torch.equal(value, before[name]) and value.requires_grad for name, value in model.named_parameters())
    # dL/dB = scaling * (dL/dW) A^T, with A as the ranking draws it
    from peft import get_peft_model

    with torch.random.fork_rng():
        torch.manual_seed(0)
        wrapped = get_peft_model(copy.deepcopy(model), LoraConfig(**LORA))
    factors = {n: p.detach() for n, p in wrapped.named_parameters() if "lora_A" in n}
    sums = torch.zeros(2, 4, dtype=torch.float64)
    for example in examples:
        ids = torch.tensor([example["input_ids"]])
        segments = torch.tensor(example["segment_ids"])[1:]
        nll = -model(input_ids=ids).logits[0, :-1].log_softmax(-1).gather(1, ids[0, 1:, None])[:, 0]
        for kind, segment in enumerate((1, 0)):
            model.zero_grad()
            nll[segments == segment].mean().backward(retain_graph=True)
            for name, factor in factors.items():
                where = name.removeprefix("base_model.model.").split(".lora_A")[0]
                gradient = 2.0 * model.get_submodule(where).weight.grad @ factor.T
                sums[kind, int(where.split("layers.")[1].split(".")[0])] += gradient.double().square().sum()
    shares = sums / sums.sum(dim=1, keepdim=True)
    expected = (shares[0] - shares[1]).tolist()
    assert [item.layer for item in ranking] == sorted(range(4), key=lambda layer: -expected[layer])
    for item in ranking:
        assert item.score == pytest.approx(expected[item.layer], abs=1e-6)
        assert item.thought == pytest.approx(float(sums[0, item.layer]) / 3 / (4 * (16 + 8)), rel=1e-4)


def test_auto_takes_the_top_share_and_a_second_start_reads_it(tmp_path, model, tokenizer, records, capsys):
    trainer = _trainer(tmp_path, model, tokenizer, records, reasoner_ratio=0.5)
    kept = json.loads((tmp_path / RANKING_FILE).read_text())
    best = sorted(item["layer"] for item in kept["ranking"][:2])
    assert trainer.reasoner_layers == kept["layers"] == best
    assert _layers_with_lora(trainer.model) == set(best)
    out = capsys.readouterr().out
    assert "rank  layer" in out and out.count("yes") == 2
    assert (tmp_path / "reasoner_layers.png").read_bytes().startswith(b"\x89PNG")
    again = _trainer(tmp_path, model, tokenizer, records, reasoner_ratio=0.5)
    assert again.reasoner_layers == best and "rank  layer" not in capsys.readouterr().out
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.lm_head.weight.mul_(2)
    _trainer(tmp_path, other, tokenizer, records, reasoner_ratio=0.5)  # another base: ranked anew
    assert "rank  layer" in capsys.readouterr().out


@pytest.mark.parametrize("options", [{}, {"use_rslora": True}, {"use_dora": True}])
def test_adapter_saves_loads_in_a_fresh_process_and_merges(tmp_path, model, tokenizer, records, options):
    base = tmp_path / "base"
    model.save_pretrained(base)
    tokenizer.save_pretrained(base)
    lora = LoraConfig(**LORA, **options)
    trainer = _trainer(tmp_path / "out", str(base), tokenizer, records, lora, reasoner_layers="1-2", learning_rate=0.1)
    trainer.train()
    trainer.save_model()
    expected = _logits(trainer.model, tokenizer)
    plain = _logits(AutoModelForCausalLM.from_pretrained(base), tokenizer)
    assert not torch.allclose(expected, plain, atol=1e-3)
    if not options:
        script = (
            "import sys, torch; from transformers import AutoModelForCausalLM, AutoTokenizer\n"
            "model, tokenizer = (c.from_pretrained(sys.argv[1]) for c in (AutoModelForCausalLM, AutoTokenizer))\n"
            "ids = torch.tensor([tokenizer('小明有12个苹果')['input_ids']])\n"
            "torch.save(model.eval()(input_ids=ids).logits.detach(), sys.argv[2])"
        )
        command = [sys.executable, "-c", script, str(tmp_path / "out"), str(tmp_path / "logits.pt")]
        done = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ), timeout=120)
        assert done.returncode == 0, done.stderr[-2000:]
        assert torch.allclose(torch.load(tmp_path / "logits.pt"), expected, atol=1e-5)
    loaded = load_adapters(AutoModelForCausalLM.from_pretrained(base), {"math": tmp_path / "out"})
    assert torch.allclose(_logits(loaded, tokenizer), expected, atol=1e-5)
    assert torch.allclose(_logits(loaded.merge_and_unload(), tokenizer), expected, atol=1e-4)


def test_several_adapters_on_one_base_and_switching(tmp_path, model, tokenizer, records):
    outputs = {}
    for number, domain in enumerate(("math", "finance")):
        trainer = _trainer(
            tmp_path / domain,
            model,
            tokenizer,
            records[10 * number :],
            reasoner_layers=str(number + 1),
            learning_rate=0.1,
        )
        trainer.train()
        trainer.save_model()
        outputs[domain] = _logits(trainer.model, tokenizer)
    loaded = load_adapters(copy.deepcopy(model), {domain: tmp_path / domain for domain in outputs})
    assert isinstance(loaded, PeftModel) and loaded.active_adapter == "math"
    for domain, expected in outputs.items():
        with adapter_of(loaded, domain) as name:
            assert name == domain and torch.allclose(_logits(loaded, tokenizer), expected, atol=1e-5)
    with adapter_of(loaded, "legal") as name:
        assert name is None and torch.allclose(_logits(loaded, tokenizer), _logits(model, tokenizer), atol=1e-6)
    assert torch.allclose(_logits(loaded, tokenizer), outputs["math"], atol=1e-5)
    with pytest.raises(AdapterError, match="already"):
        load_adapters(loaded, {"math": tmp_path / "math"})


def test_an_adapter_of_another_base_is_refused(tmp_path, model, tokenizer, records):
    options = {"reasoner_layers": "1", "save_strategy": "steps", "save_steps": 1}
    trainer = _trainer(tmp_path / "out", model, tokenizer, records, **options)
    trainer.train()
    trainer.save_model()
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.model.layers[0].mlp.up_proj.weight[0, 0] += 1
    with pytest.raises(AdapterError, match="belongs to another base model.*Load that base"):
        load_adapters(other, {"math": tmp_path / "out"})
    resumed = _trainer(tmp_path / "out", other, tokenizer, records, **options)
    with pytest.raises(AdapterError, match="another base model"):
        resumed.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-1"))
    with pytest.raises(AdapterError, match="holds no adapter_config.json"):
        load_adapters(model, {"math": tmp_path / "nowhere"})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reasoner_layers": "7"}, "no layer '7'.*model.layers.0 to model.layers.3"),
        ({"reasoner_layers": "2-9"}, "no layer '2-9'"),
        ({"reasoner_layers": "encoder.0"}, "'encoder.0' does not name layers"),
        ({"reasoner_layers": ","}, "names no layer"),
        ({"reasoner_ratio": 0.0}, "reasoner_ratio"),
        ({"ranking_records": 0}, "ranking_records"),
        ({"lora": LoraConfig(**{**LORA, "target_modules": r".*q_proj"})}, "is a pattern"),
        ({"lora": LoraConfig(**LORA, layers_to_transform=[1])}, "Name the layers in reasoner_layers"),
        ({"lora": LoraConfig(**LORA, modules_to_save=["lm_head"])}, "modules_to_save.*outside the reasoner"),
        ({"lora": LoraConfig(**LORA, bias="all")}, "bias='all' changes weights outside the reasoner"),
        ({"lora": LoraConfig(**LORA, init_lora_weights="pissa")}, "init_lora_weights='pissa' changes weights"),
        ({"lora": LoraConfig(**LORA, target_parameters=["mlp.experts"])}, "target_parameters"),
        ({"lora": LoraConfig(**{**LORA, "target_modules": ["q_proj", "lm_head"]})}, "'lm_head', which is outside"),
    ],
)
def test_bad_options_are_refused(tmp_path, model, tokenizer, records, options, message):
    with pytest.raises(ValueError, match=message):
        _trainer(tmp_path, model, tokenizer, records, **options)


def test_one_name_of_a_module_is_no_pattern(tmp_path, model, tokenizer, records):
    """`--lora_target_modules q_proj`: TRL makes a text of it."""
    trainer = _trainer(tmp_path, model, tokenizer, records, lora=LoraConfig(**{**LORA, "target_modules": "q_proj"}))
    assert list(trainer.model.peft_config["default"].target_modules) == ["q_proj"]


def test_a_model_with_an_adapter_is_refused(tmp_path, model, tokenizer, records):
    from peft import get_peft_model

    with pytest.raises(ValueError, match="carries an adapter already"):
        _trainer(tmp_path, get_peft_model(model, LoraConfig(**LORA)), tokenizer, records)


def test_numbers_of_a_yaml_are_layers(model, tmp_path):
    names = reasoning_stack(model).names
    args = ReasonerLoRAConfig(str(tmp_path), use_cpu=True, reasoner_layers=3)
    assert parse_layers(args.reasoner_layers, len(names), names) == [3]


def test_qlora_in_nf4_trains_the_lora_alone(tmp_path, model, tokenizer, records):
    pytest.importorskip("bitsandbytes")
    from transformers import BitsAndBytesConfig

    wide = tiny_qwen2(tokenizer, num_hidden_layers=4, hidden_size=64, intermediate_size=128)
    save_model(tmp_path / "base", wide, tokenizer)
    quantized = AutoModelForCausalLM.from_pretrained(
        tmp_path / "base",
        dtype=torch.float32,
        quantization_config=BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.float32,
        ),
    )
    options = {"reasoner_ratio": 0.5, "max_steps": 4, "ranking_records": 4}
    trainer = _trainer(tmp_path / "out", quantized, tokenizer, records, **options)
    assert "4 bit" in trainer.base["kind"] and len(trainer.reasoner_layers) == 2
    losses_before = trainer.state.log_history
    trainer.train()
    losses = [row["loss"] for row in losses_before + trainer.state.log_history if "loss" in row]
    assert losses[-1] < losses[0]
    trainer.save_model()
    # the adapter of a 4-bit base also goes onto the whole one
    loaded = load_adapters(AutoModelForCausalLM.from_pretrained(tmp_path / "base"), {"math": tmp_path / "out"})
    assert torch.isfinite(_logits(loaded, tokenizer)).all()
